"""Predictions for labelled images: logits of a network, and the probabilities that calibrations make of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.bundle.calibration import CalibratedBy, Calibration, choose_calibration
from model.bundle.training_distribution import TrainingDistribution
from model.dataset.sources import Sample
from model.engine.protocol import Engine
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import prepare


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits of a network for n images, with their targets and metadata.

    Attributes
    ----------
    logits, targets
        float32 [n, labels]; targets are 1, 0 or nan (unknown).
    pooled
        float32 [n, channels]: mean of the feature map over its cells.
    domains, patients
        str [n]: name of the training domain, and identifier of the patient.
    ages
        float32 [n], years; nan where unknown. Omitted: all unknown.
    """

    logits: NDArray[np.float32]
    targets: NDArray[np.float32]
    pooled: NDArray[np.float32]
    domains: NDArray[np.str_]
    patients: NDArray[np.str_]
    ages: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def __post_init__(self) -> None:
        if len(self.ages) != len(self.logits):
            object.__setattr__(self, "ages", np.full(len(self.logits), np.nan, np.float32))

    @classmethod
    def of_samples(
        cls,
        samples: Sequence[Sample],
        labels: Sequence[str],
        logits: Sequence[NDArray[np.float32]],
        pooled: Sequence[NDArray[np.float32]],
    ) -> "Predictions":
        """Join the logits [labels] and pooled features [channels] of each sample with its targets and metadata."""
        return cls(
            np.array(logits, np.float32),
            np.array([[sample.target(label) for label in labels] for sample in samples], np.float32),
            np.array(pooled, np.float32),
            np.array([sample.domain for sample in samples]),
            np.array([sample.patient for sample in samples]),
            np.array([np.nan if sample.age is None else sample.age for sample in samples], np.float32),
        )

    def by_domain(self) -> dict[str, "Predictions"]:
        """Return the predictions of each domain."""
        return {str(name): self.subset(self.domains == name) for name in np.unique(self.domains)}

    def subset(self, mask: NDArray[np.bool_]) -> "Predictions":
        """Return the predictions of the images that a mask, bool [n], selects."""
        parts: dict[str, NDArray[Any]] = {entry.name: getattr(self, entry.name)[mask] for entry in fields(self)}
        return Predictions(**parts)


@dataclass(frozen=True, eq=False)
class CalibratedPredictions:
    """Calibrated probabilities of n images, and the calibration that was applied to each.

    Attributes
    ----------
    probabilities, thresholds
        float64 [n, labels].
    groups
        str [n]: age group of the calibration applied; empty for the calibration of all patients.
    calibrated_by
        str [n]: why that calibration was selected, a `CalibratedBy`.
    """

    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    groups: NDArray[np.str_]
    calibrated_by: NDArray[np.str_]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether each label is positive, bool [n, labels]; probabilities are compared in float32, as in inference."""
        result: NDArray[np.bool_] = self.probabilities.astype(np.float32) >= self.thresholds
        return result

    def subset(self, mask: NDArray[np.bool_]) -> "CalibratedPredictions":
        """Return the predictions of the images that a mask, bool [n], selects."""
        return CalibratedPredictions(
            self.probabilities[mask], self.thresholds[mask], self.groups[mask], self.calibrated_by[mask]
        )


def calibrate(
    predictions: Predictions,
    labels: Sequence[str],
    everyone: Calibration,
    groups: Sequence[Calibration],
    distribution: TrainingDistribution,
) -> CalibratedPredictions:
    """Return calibrated probabilities as `Predictor` computes them, each by the calibration of `choose_calibration`.

    Parameters
    ----------
    predictions
        Logits, pooled features and ages.
    labels
        Names, in the order of the logits.
    everyone, groups
        The calibration of all patients, and those of age groups.
    distribution
        Finds the nearest training domain of images whose patient's age is unknown or in no group.
    """
    nearest = distribution.nearest(predictions.pooled) if groups else [""] * len(predictions.logits)
    used: list[tuple[Calibration, CalibratedBy]] = [
        choose_calibration(everyone, groups, float(age), domain)
        for age, domain in zip(predictions.ages, nearest, strict=True)
    ]
    n, width = predictions.logits.shape
    return CalibratedPredictions(
        np.array(
            [
                calibration.exact_probabilities(row)
                for (calibration, _), row in zip(used, predictions.logits, strict=True)
            ],
            np.float64,
        ).reshape(n, width),
        np.array([[calibration.thresholds[name] for name in labels] for calibration, _ in used]).reshape(n, width),
        np.array([calibration.group for calibration, _ in used], np.str_),
        np.array([why for _, why in used], np.str_),
    )


def predict(
    engine: Engine,
    bundle: Bundle,
    samples: Sequence[Sample],
    read_image: Callable[[Path], NDArray[np.float32]] = read_raster,
    on_image: Callable[[], None] = lambda: None,
) -> Predictions:
    """Run the network on samples, one image at a time, with the preprocessing and engine of inference.

    Parameters
    ----------
    engine, bundle
        The network, and the bundle whose preprocessing and labels apply.
    samples
        Images with labels.
    read_image
        Returns float32 [rows, columns] in [0, 1] of a file.
    on_image
        Called after each image.
    """
    logits, pooled = [], []
    for sample in samples:
        output = engine.run(prepare(read_image(sample.path), bundle.preprocessing).tensor[np.newaxis])
        logits.append(output.logits[0])
        pooled.append(output.pooled[0])
        on_image()
    return Predictions.of_samples(samples, bundle.label_names, logits, pooled)
