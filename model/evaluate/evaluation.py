"""`evaluate`: metrics of a bundle on labelled images, for ``report.json`` and the HTML report."""

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.dataset.given_split import gives_split
from model.dataset.samples import ReadImageMetadata, no_metadata
from model.dataset.sources import DatasetInvalid, FileProblem, Sample, Source, read_sources
from model.dataset.split import check_unseen, read_split
from model.engine.protocol import Engine
from model.evaluate.class_metrics import class_metrics
from model.evaluate.metrics import BINS
from model.evaluate.metrics_with_intervals import RESAMPLES, metrics_by_label
from model.evaluate.pointing_game import Pointing, point, read_boxes, summarise
from model.evaluate.predictions import CalibratedPredictions, Predictions, calibrate
from model.inference.predictor import InferenceResult, Predictor
from model.preprocessing.image_files import UnreadableImage
from model.preprocessing.tensor import prepare
from model.rendering.overlay import draw_overlay, legend_for

ReadImage = Callable[[Path], NDArray[np.float32]]
AGE_BANDS = ((0, 5), (6, 17), (18, 39), (40, 64), (65, 110))
SMALLEST_SUBGROUP = 10
"""Images that a subgroup needs to be reported."""
MOST_MISREAD = 200
"""False positives and false negatives that are listed."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of an evaluation.

    Attributes
    ----------
    report
        Metrics and their method, as plain values for JSON.
    predictions, calibrated
        The predictions that the metrics are of; plots are drawn from them.
    labels
        Names, in the order of the logits.
    worst
        The first entries of the report's ``misread``, each with its overlay as a data URI under ``picture``.
    """

    report: dict[str, Any]
    predictions: Predictions
    calibrated: CalibratedPredictions
    labels: tuple[str, ...]
    worst: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class EvaluationSet:
    """The images to evaluate on.

    Attributes
    ----------
    samples, problems
        The images, and the files that cannot be used.
    warning
        That images or their patients are in the network's training or validation part; else empty.
    compared
        What was compared with the bundle's split file: files, patients, or nothing.
    """

    samples: list[Sample]
    problems: list[FileProblem]
    warning: str = ""
    compared: str = "nothing; the model does not say what it was trained on"


def select_evaluation_set(
    bundle: Bundle,
    sources: Sequence[Source],
    split_file: Path | None,
    part: str,
    allow_seen: bool,
    read_metadata: ReadImageMetadata = no_metadata,
) -> EvaluationSet:
    """Return the images to evaluate on.

    Parameters
    ----------
    bundle
        The model; its split file tells which images and patients it was trained on.
    sources
        Folders or tables of labelled images.
    split_file, part
        Only the images of this part of this split file; without a file, of this part of data that come in parts, else
        all images.
    allow_seen
        Evaluate on images of the training or validation part too, with a warning.
    read_metadata
        Reads patient, age, sex and view of an image file.

    Raises
    ------
    DatasetInvalid
        The data or the split cannot be used; or images or patients are in the bundle's training or validation part,
        without `allow_seen`.
    """
    problems: list[FileProblem] = []
    samples = read_sources(sources, read_metadata, problems, spellings=bundle.label_names)
    if split_file is not None:
        samples = read_split(split_file, samples)[part]
    elif gives_split(samples):
        counts = Counter(sample.part or "none" for sample in samples)
        samples = [sample for sample in samples if sample.part == part]
        if not samples:
            found = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise DatasetInvalid(f"the data come in parts ({found}), and none is the {part} part (--part)")
    own = bundle.folder / "split.csv"
    warning, compared = "", EvaluationSet.compared
    if own.is_file():
        try:
            compared = check_unseen(own, samples)
        except DatasetInvalid as leak:
            if not allow_seen:
                raise DatasetInvalid(f"{leak}; --allow-seen evaluates on them, with a warning in the report") from leak
            warning, compared = str(leak), ""
    if not samples:
        raise DatasetInvalid("there is no image to evaluate on")
    known = {label for sample in samples for label, value in sample.labels.items() if value == value}
    if not known & set(bundle.label_names):
        raise DatasetInvalid(
            f"the data have the labels {', '.join(sorted(known)) or 'none'}; the model predicts "
            f"{', '.join(bundle.label_names)}"
        )
    return EvaluationSet(samples, problems, warning, compared)


def evaluate(
    bundle: Bundle,
    engine: Engine,
    images: EvaluationSet,
    sources: Sequence[Source],
    read_image: ReadImage,
    on_image: Callable[[], None] = lambda: None,
    worst: int = 12,
) -> Evaluation:
    """Run every image through the predictor of inference, and compute the metrics.

    Parameters
    ----------
    bundle, engine
        The model.
    images
        What `select_evaluation_set` returned.
    sources
        Whose tables may hold bounding boxes (`read_boxes`).
    read_image
        Returns float32 [rows, columns] in [0, 1] of a file.
    on_image
        Called before each image.
    worst
        Overlays to draw, of the false positives and negatives farthest from their threshold.

    Raises
    ------
    DatasetInvalid
        No image can be read.
    """
    predictor = Predictor(bundle, engine)
    boxes = read_boxes([source.folder for source in sources])
    kept: list[tuple[Sample, InferenceResult, NDArray[np.float32]]] = []
    unreadable = [FileProblem(problem.kind, problem.path, problem.reason) for problem in images.problems]
    pointings: list[Pointing] = []
    for sample in images.samples:
        on_image()
        try:
            prepared = prepare(read_image(sample.path), bundle.preprocessing)
        except (UnreadableImage, OSError, ValueError) as error:
            unreadable.append(FileProblem("damaged", sample.path, str(error)))
            continue
        output = engine.run(prepared.tensor[np.newaxis])
        result = predictor.results_of(prepared.tensor[np.newaxis], output, [sample.age])[0]
        kept.append((sample, result, output.pooled[0]))
        for box in boxes.get(sample.path.name, []):
            if box.label in bundle.label_names:
                contribution = result.maps.contribution(bundle.label_names.index(box.label))
                pointing = point(contribution, prepared.affine, bundle.preprocessing.size, box)
                pointings += [pointing] if pointing else []
    if not kept:
        raise DatasetInvalid(f"none of the {len(images.samples)} images can be read; the first: {unreadable[0].reason}")
    read = [sample for sample, _, _ in kept]
    predictions = Predictions.of_samples(
        read, bundle.label_names, [result.logits for _, result, _ in kept], [pooled for _, _, pooled in kept]
    )
    calibrated = calibrate(predictions, bundle.label_names, bundle.everyone, bundle.groups, bundle.distribution)
    calibrations = Counter(zip(calibrated.groups.tolist(), calibrated.calibrated_by.tolist(), strict=True))
    report: dict[str, Any] = {
        "model": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "engine": engine.name,
        "precision": engine.precision,
        "images": len(read),
        "patients": len({sample.patient for sample in read}),
        "warning": images.warning,
        "compared_with_training": images.compared,
        "method": {
            "intervals": f"95 %, {RESAMPLES} bootstrap resamples of patients; a share of 0 or 1: Wilson, over patients",
            "ece": f"{BINS} bins of equal width; ece_by_chance: simulated for perfectly calibrated probabilities",
        },
        "calibration": {
            f"{group or 'everyone'}, by {why}": count for (group, why), count in sorted(calibrations.items())
        },
        "all": metrics_by_label(predictions, calibrated, bundle.label_names),
        "classes": _classes(bundle, predictions),
        "subgroups": _subgroups(read, predictions, calibrated, bundle.label_names),
        "pointing": summarise(pointings) if pointings else {},
        "left_out": [{"file": problem.path.name, "reason": problem.reason} for problem in unreadable],
    }
    misread = _misread(calibrated, predictions)
    report["misread"] = [
        {
            "file": read[row].path.name,
            "label": bundle.label_names[label],
            "truth": bool(predictions.targets[row, label]),
            "probability": round(float(calibrated.probabilities[row, label]), 4),
            "threshold": round(float(calibrated.thresholds[row, label]), 4),
        }
        for row, label in misread
    ]
    pictures = [
        {**entry, "picture": _picture(bundle, predictor, read[row], label, read_image)}
        for entry, (row, label) in zip(report["misread"][:worst], misread[:worst], strict=True)
    ]
    return Evaluation(report, predictions, calibrated, bundle.label_names, pictures)


def _classes(bundle: Bundle, predictions: Predictions) -> dict[str, Any]:
    """Return accuracy and confusion matrix of a network with a softmax; empty for independent labels."""
    provenance = bundle.description.get("provenance", {})
    if provenance.get("answer") != "softmax":
        return {}
    labels, classes = bundle.label_names, provenance.get("classes", [])
    return class_metrics(
        predictions.logits, predictions.targets, predictions.patients, labels, len(classes) > len(labels)
    )


def _subgroups(
    samples: Sequence[Sample], predictions: Predictions, calibrated: CalibratedPredictions, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return metrics of subgroups: by collection, view, sex, age band and calibration, where these are known."""
    criteria: Mapping[str, list[str]] = {
        "collection": [sample.domain for sample in samples],
        "view": [sample.view or "" for sample in samples],
        "sex": [sample.sex or "" for sample in samples],
        "age": [_band(sample.age) for sample in samples],
        "calibrated for": [str(group) for group in calibrated.groups],
    }
    subgroups: dict[str, dict[str, Any]] = {}
    for criterion, values in criteria.items():
        names = sorted(set(values) - {""})
        if len(names) < 2:
            continue
        for name in names:
            mask = np.array([value == name for value in values])
            if mask.sum() >= SMALLEST_SUBGROUP:
                metrics = metrics_by_label(predictions.subset(mask), calibrated.subset(mask), labels)
                subgroups[f"{criterion}: {name}"] = metrics
    return subgroups


def _band(age: float | None) -> str:
    if age is None:
        return ""
    return next((f"{low}-{high} years" for low, high in AGE_BANDS if low <= int(age) <= high), "")


def _misread(calibrated: CalibratedPredictions, predictions: Predictions) -> list[tuple[int, int]]:
    """Return (image, label) of false positives and negatives, by falling distance from the threshold in log odds."""
    logits = np.log(np.clip(calibrated.probabilities, 1e-6, 1 - 1e-6) / np.clip(1 - calibrated.probabilities, 1e-6, 1))
    distances = np.abs(logits - np.log(calibrated.thresholds / (1 - calibrated.thresholds)))
    wrong = np.isfinite(predictions.targets) & (calibrated.positive != (predictions.targets == 1))
    misread = [(float(distances[row, label]), row, label) for row, label in np.argwhere(wrong)]
    return [(int(row), int(label)) for _, row, label in sorted(misread, reverse=True)[:MOST_MISREAD]]


def _picture(bundle: Bundle, predictor: Predictor, sample: Sample, label: int, read_image: ReadImage) -> str:
    """Return the overlay of one label as a data URI, JPEG, without legend: nothing in it names a patient."""
    from PIL import Image

    image = read_image(sample.path)
    prepared = prepare(image, bundle.preprocessing)
    (result,) = predictor.predict([prepared], [sample.age])
    drawn = draw_overlay(
        image,
        result.maps.contribution(label),
        prepared.affine,
        bundle.preprocessing.size,
        legend_for(bundle, result, label, ()),
        longest_side=384,
    )
    _, _, width, height = drawn.radiograph
    buffer = BytesIO()
    Image.fromarray(drawn.rgb[:height, :width]).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
