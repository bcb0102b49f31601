"""How the demonstration bundle is made: ``python -m model.demonstration DATA OUT``.

DATA holds ``kermany`` (children, class folders) and ``nih`` and ``nih512`` (adults, ChestX-ray14 tables).
"""

import sys
from pathlib import Path

from model.dataset.samples import Source
from model.train.fitting import TrainingProgress
from model.train.plan import TrainingPlan
from model.train.training import train

LABELS = ("Pneumonia", "Infiltration", "Atelectasis", "Edema", "Effusion")

WARNING = "A demonstration, not for diagnosis: it shows that the parts work together. Do not act on what it says."

TERMS = (
    "Children: Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for "
    "Classification. Mendeley Data, 2018, doi 10.17632/rscbjbr9sj, CC BY 4.0 (its training part, at 224 x 224).",
    "Adults: a subset of ChestX-ray14. Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: "
    "Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and "
    "Localization of Common Thorax Diseases. IEEE CVPR 2017. The NIH Clinical Center provided the images: https://nihcc.app.box.com/v/ChestXray-NIHCC",
)

WEAKNESSES = (
    "Adults are few, from one hospital, and their labels were mined from reports by a program; most labels were not "
    "read off the image. What the intervals above leave open is open.",
    "In adults pneumonia is recognised little better than by chance; see the interval above.",
    "Children are one to five years old, from one hospital in Guangzhou; their images had lost their aspect ratio, so "
    "every image is stretched onto a square.",
    "Normal children and children with pneumonia may differ in more than the finding (equipment, position, "
    "cropping); figures within one collection overstate what another hospital would see.",
    "Ages 6 to 17 are hardly in the data. Lateral images, trauma, devices and anything but the five "
    "labels are not looked for.",
    "The out-of-distribution score is a help, no guard: an image can lie within the distribution and be read wrong.",
    "Tried, and not taken: going on from these weights with the same split for an hour (9,104 images at 160, "
    "then 224 pixels, averaged weights, mixup, wider augmentation, adults 45 % of each epoch). The adults' "
    "mean AUROC on the validation part rose from 0.71 to 0.73, less than 118 images can tell from chance.",
)


COMMANDS = """\
python -m model.demonstration DATA OUT
python -m model.demonstration.recalibration OUT NEW \\
  children:1-5=DATA/kermany adults:18-90=DATA/nih adults:18-90=DATA/nih512
python -m worker.tools.ood_report NEW \\
  'limbs (a hip and an extremity, DICOM)=DATA/dicom/wg04_RG2_hip_JPLL.dcm,DATA/dicom/wg04_RG3_extremity_J2KR.dcm' \\
  "a dog's thorax (DICOM)=DATA/dicom/highdicom_dx_dog_thorax.dcm" \\
  'colour photographs, averaged to gray=SKLEARN/datasets/images/china.jpg,SKLEARN/datasets/images/flower.jpg' \\
  "adults' chests from elsewhere (DICOM)=DATA/dicom/wg04_RG1_chest_JLSN.dcm,\
DATA/dicom/fodicom_CR-MONO1-10-chest_no_meta.dcm\""""
"""The calibration and the last rows of the out-of-distribution table were measured after the training."""


def demonstration_plan(data: Path, output: Path) -> TrainingPlan:
    """Return the plan of the demonstration bundle."""
    return TrainingPlan(
        sources=(
            Source(data / "kermany", "children"),
            Source(data / "nih", "adults"),
            Source(data / "nih512", "adults"),
        ),
        output=output,
        name="demonstration",
        version="1",
        labels=LABELS,
        epochs=100,
        images_an_epoch=1512,
        minutes=62,
        threads=2,
        precision="mixed_bfloat16",
        ages=((1, 5), (18, 90)),
        label_ages={label: ((18, 90),) for label in LABELS if label != "Pneumonia"},  # of children only that is known
        domain_ages={"children": ((1, 5),), "adults": ((18, 90),)},
        views=("AP", "PA"),
        provenance={
            "command": COMMANDS,
            "warning": WARNING,
            "weaknesses": list(WEAKNESSES),
            "terms": list(TERMS),
        },
    )


def main() -> None:
    """Train the demonstration bundle, a line of progress each percent."""
    shown: set[tuple[str, int]] = set()

    def on_progress(progress: TrainingProgress) -> None:
        step = (progress.phase, 100 * progress.done // max(1, progress.total))
        if step not in shown:
            shown.add(step)
            print(f"{progress.phase}: {step[1]} %", progress.last_epoch or "", flush=True)

    bundle = train(demonstration_plan(Path(sys.argv[1]), Path(sys.argv[2])), on_progress=on_progress)
    print(bundle.folder)


if __name__ == "__main__":
    main()
