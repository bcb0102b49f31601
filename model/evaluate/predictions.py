"""A network's answers to labelled images, and what a calibration makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.bundle.calibration import Calibration, ChosenBy, choose_calibration
from model.bundle.training_distribution import TrainingDistribution
from model.dataset.sources import Sample
from model.engine.protocol import Engine
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import prepare


@dataclass(frozen=True, eq=False)
class Measured:
    """A network's answers to the images of a part.

    Attributes
    ----------
    logits, targets
        float32 [n, labels]; targets nan where unknown.
    pooled
        float32 [n, channels]: the feature map's mean.
    domains, patients
        A name an image.
    ages
        float32 [n], years; nan where unknown. Left out: all unknown.
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
    ) -> "Measured":
        """Put what a network answered, an entry a sample, beside what is known of the samples."""
        return cls(
            np.array(logits, np.float32),
            np.array([[sample.target(label) for label in labels] for sample in samples], np.float32),
            np.array(pooled, np.float32),
            np.array([sample.domain for sample in samples]),
            np.array([sample.patient for sample in samples]),
            np.array([np.nan if sample.age is None else sample.age for sample in samples], np.float32),
        )

    def by_domain(self) -> dict[str, "Measured"]:
        """Return the answers of each domain."""
        return {str(name): self.chosen(self.domains == name) for name in np.unique(self.domains)}

    def chosen(self, rows: NDArray[np.bool_]) -> "Measured":
        """Return the answers to some of the images, by a mask bool [n]."""
        parts: dict[str, NDArray[Any]] = {entry.name: getattr(self, entry.name)[rows] for entry in fields(self)}
        return Measured(**parts)


@dataclass(frozen=True, eq=False)
class Judged:
    """What calibrations make of a network's answers.

    Attributes
    ----------
    probabilities, thresholds
        float64 [n, labels].
    groups
        The group of the calibration used, an image; empty: that for everyone.
    chosen_by
        Why it was that one, an image.
    """

    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    groups: NDArray[np.str_]
    chosen_by: NDArray[np.str_]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether each label counts as positive, bool [n, labels]: by float32, as a reader has it."""
        result: NDArray[np.bool_] = self.probabilities.astype(np.float32) >= self.thresholds
        return result

    def chosen(self, rows: NDArray[np.bool_]) -> "Judged":
        """Return what is said of some of the images, by a mask bool [n]."""
        return Judged(self.probabilities[rows], self.thresholds[rows], self.groups[rows], self.chosen_by[rows])


def judge(
    measured: Measured,
    labels: Sequence[str],
    everyone: Calibration,
    groups: Sequence[Calibration],
    distribution: TrainingDistribution,
) -> Judged:
    """Turn answers into probabilities as a reader does: the calibration is chosen by age, else by nearest domain."""
    nearest = distribution.nearest(measured.pooled) if groups else [""] * len(measured.logits)
    used: list[tuple[Calibration, ChosenBy]] = [
        choose_calibration(everyone, groups, float(age), domain)
        for age, domain in zip(measured.ages, nearest, strict=True)
    ]
    n, width = measured.logits.shape
    return Judged(
        np.array(
            [calibration.exact_probabilities(row) for (calibration, _), row in zip(used, measured.logits, strict=True)],
            np.float64,
        ).reshape(n, width),
        np.array([[calibration.thresholds[name] for name in labels] for calibration, _ in used]).reshape(n, width),
        np.array([calibration.group for calibration, _ in used], np.str_),
        np.array([why for _, why in used], np.str_),
    )


def measure(
    engine: Engine,
    bundle: Bundle,
    samples: Sequence[Sample],
    read_image: Callable[[Path], NDArray[np.float32]] = read_raster,
    on_image: Callable[[], None] = lambda: None,
) -> Measured:
    """Read samples from their files with the tensor function and engine that serve."""
    logits, pooled = [], []
    for sample in samples:
        output = engine.run(prepare(read_image(sample.path), bundle.preprocessing).tensor[np.newaxis])
        logits.append(output.logits[0])
        pooled.append(output.pooled[0])
        on_image()
    return Measured.of_samples(samples, bundle.label_names, logits, pooled)
