"""Which images set the quantization ranges, and which others judge: unseen in training, and of other patients."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.bundle.bundle import Bundle
from model.dataset.sources import DatasetInvalid, Sample, limited
from model.dataset.split import split_by_patient, unseen

CALIBRATION_IMAGES = 300
LEAST_JUDGED = 20
SPLIT_FILE = "split.csv"
_SEED = 2026
_HALVES = {"ranging": 0.5, "judging": 0.5}


@dataclass(frozen=True)
class QuantizationImages:
    """Images of the two purposes; no patient and no duplicate is in both.

    Attributes
    ----------
    compared
        How it is known that the network was not trained on those that judge; empty where it is not.
    """

    ranging: list[Sample]
    judging: list[Sample]
    compared: str = ""


def choose_images(bundle: Bundle, samples: Sequence[Sample]) -> QuantizationImages:
    """Divide images into those that set the ranges and those that judge.

    Only images that the network was not trained on judge, by the bundle's split file. What it was trained on sets the
    ranges; where that is too little, half of the other patients do. Without a split file the patients are halved.

    Raises
    ------
    DatasetInvalid
        There are too few images for either; the message says how many the network knows.
    """
    split_file = bundle.folder / SPLIT_FILE
    known, compared = [], ""
    fresh = list(samples)
    if split_file.exists():
        fresh, compared = unseen(split_file, samples)
        judges = {id(sample) for sample in fresh}
        known = [sample for sample in samples if id(sample) not in judges]
    if len(known) < LEAST_JUDGED:
        halves = split_by_patient(fresh, _SEED, _HALVES)
        known, fresh = halves["ranging"], halves["judging"]
    if min(len(known), len(fresh)) < LEAST_JUDGED:
        of_training = f", {len(known)} of them of the network's own training and validation parts" if compared else ""
        raise DatasetInvalid(
            f"{len(samples)} images{of_training} are too few: {LEAST_JUDGED} are needed to set the ranges, and "
            f"{LEAST_JUDGED} of other patients, that the network was not trained on, to judge"
        )
    return QuantizationImages(limited(known, CALIBRATION_IMAGES), fresh, compared)
