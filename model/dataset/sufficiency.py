"""Checks, before hours of training, that there are enough images to train, calibrate and evaluate on."""

from collections import Counter
from collections.abc import Mapping, Sequence

from model.bundle.labels import label_key
from model.dataset.samples import DatasetInvalid, Sample
from model.dataset.split import PARTS

FEWEST_VALIDATED = 100
"""Validation images of a domain under which a notice is given.

Of 16 images the 99th percentile flags 6 % of like images, of 40 3 %, of 80 2 % (the demonstration network).
"""

ADVICE = "give more patients, another seed or split file"


def positives(samples: Sequence[Sample]) -> dict[str, int]:
    """Count the positive images of each label, most frequent first."""
    counts: dict[str, int] = {}
    for sample in samples:
        for label, value in sample.labels.items():
            counts[label] = counts.get(label, 0) + (value == 1.0)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def choose_labels(
    samples: Sequence[Sample], wanted: Sequence[str], minimum_positives: int
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the labels to train on, and the labels left out with their numbers of positive images.

    Parameters
    ----------
    samples
        The images.
    wanted
        Labels that were requested, in any case: one positive image is enough. Empty: every label with
        `minimum_positives`.
    minimum_positives
        Positive images that a label needs if no labels are requested.

    Raises
    ------
    DatasetInvalid
        A requested label has no positive image, or no label has enough; the message counts them.
    """
    counts = positives(samples)
    if wanted:
        spelled = {label_key(label): label for label in counts}
        wanted = [spelled.get(label_key(label), label) for label in wanted]
        missing = [label for label in wanted if not counts.get(label)]
        if missing:
            present = [label for label, count in counts.items() if count]
            raise DatasetInvalid(
                f"no positive image has the label {', '.join(missing)}; "
                f"labels in the data: {', '.join(present) or 'none'}"
            )
        return tuple(wanted), {}
    few = {label: count for label, count in counts.items() if count < minimum_positives}
    chosen = tuple(label for label in counts if label not in few)
    if not chosen:
        raise DatasetInvalid(
            f"no label has the {minimum_positives} positive images that are needed (--minimum-positives); "
            f"there are: {counted(few) or 'none'}"
        )
    return chosen, few


def counted(labels: Mapping[str, int]) -> str:
    """Return labels and their numbers of positive images as text."""
    return ", ".join(f"{label} {count}" for label, count in labels.items())


def few_validated(validation: Sequence[Sample]) -> list[str]:
    """Return a sentence for each domain with fewer than `FEWEST_VALIDATED` validation images."""
    counts = Counter(sample.domain for sample in validation)
    return [
        f"the validation part has {count} images of {domain} only: thresholds, calibration and the out-of-distribution "
        f"limit, which are fitted on them, will be uncertain; {FEWEST_VALIDATED} are better"
        for domain, count in sorted(counts.items())
        if count < FEWEST_VALIDATED
    ]


def check_parts(parts: Mapping[str, Sequence[Sample]], labels: Sequence[str]) -> None:
    """Check that a bundle with thresholds and an out-of-distribution limit can be made of the parts.

    Raises
    ------
    DatasetInvalid
        A part is empty; a domain of the training part has no validation image, which its out-of-distribution limit
        needs; or a label has only one value in the training or validation part.
    """
    for part in PARTS:
        if not parts[part]:
            raise DatasetInvalid(f"the {part} part has no image: {ADVICE}")
    domains = {part: {sample.domain for sample in parts[part]} for part in PARTS}
    missing = sorted(domains["training"] - domains["validation"])
    if missing:
        raise DatasetInvalid(f"the validation part has no image of the domain {', '.join(missing)}: {ADVICE}")
    for part in ("training", "validation"):
        for label in labels:
            values = {sample.target(label) for sample in parts[part]}
            for value, word in ((1.0, "with"), (0.0, "known to be without")):
                if value not in values:
                    raise DatasetInvalid(
                        f"the {part} part has no image {word} {label}: {ADVICE}, or leave the label out (--label)"
                    )
