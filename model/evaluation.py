"""How good a bundle is: calibration and thresholds from the validation part, figures from the test part."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.dataset import Sample, Source, read_sources
from model.engine import Engine, open_engine
from model.figures import auroc, average_precision, sensitivity_specificity
from model.preprocessing import prepare
from model.raster import read_raster
from model.reader import calibrated
from model.split import read_split

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


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
    """

    logits: NDArray[np.float32]
    targets: NDArray[np.float32]
    pooled: NDArray[np.float32]
    domains: NDArray[np.str_]
    patients: NDArray[np.str_]

    def by_domain(self) -> dict[str, "Measured"]:
        """Return the answers of each domain."""
        return {str(name): self._chosen(self.domains == name) for name in np.unique(self.domains)}

    def _chosen(self, rows: NDArray[np.bool_]) -> "Measured":
        return Measured(
            self.logits[rows], self.targets[rows], self.pooled[rows], self.domains[rows], self.patients[rows]
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
        pooled.append(output.activations[0].mean(axis=(0, 1)))
        on_image()
    targets = [[sample.target(label) for label in bundle.label_names] for sample in samples]
    return Measured(
        np.array(logits, np.float32),
        np.array(targets, np.float32),
        np.array(pooled, np.float32),
        np.array([sample.domain for sample in samples]),
        np.array([sample.patient for sample in samples]),
    )


def fit_temperatures(validation: Measured) -> NDArray[np.float32]:
    """Return the temperature a label that fits its logits best (Guo et al. 2017), both classes weighing even.

    A probability therefore means what it would where half of the patients have the finding, as in training.
    """
    labels = validation.logits.shape[1]
    temperatures = np.ones(labels, np.float32)
    for label in range(labels):
        logits, targets, weights = [], [], []
        for part in validation.by_domain().values():
            known = np.isfinite(part.targets[:, label])
            truth = part.targets[known, label]
            if 0 < truth.sum() < len(truth):
                logits.append(part.logits[known, label])
                targets.append(truth)
                weights.append(np.where(truth == 1, 1 / truth.sum(), 1 / (len(truth) - truth.sum())))
        if logits:
            temperatures[label] = _best_temperature(*map(np.concatenate, (logits, targets, weights)))
    return temperatures


def choose_thresholds(validation: Measured, temperatures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability a label with the largest sensitivity + specificity, averaged over the domains."""
    probabilities = calibrated(validation.logits, temperatures)
    thresholds = np.full(probabilities.shape[1], 0.5, np.float32)
    for label in range(probabilities.shape[1]):
        targets, scores = validation.targets[:, label], probabilities[:, label]
        values = np.unique(scores[np.isfinite(targets)])
        candidates = (values[1:] + values[:-1]) / 2
        merits = np.zeros(len(candidates))
        for name in np.unique(validation.domains):
            rows = validation.domains == name
            if {0.0, 1.0} <= set(targets[rows]):
                merits += [sum(sensitivity_specificity(targets[rows], scores[rows], float(c))) for c in candidates]
        if len(candidates) and merits.any():
            best = np.flatnonzero(merits >= merits.max() - 1e-9)
            thresholds[label] = np.clip(candidates[best[len(best) // 2]], 1e-4, 1 - 1e-4)
    return thresholds


def figures_of_merit(
    measured: Measured,
    labels: Sequence[str],
    temperatures: NDArray[np.float32],
    thresholds: Mapping[str, float],
    seed: int = 2026,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, a domain and a label, counts, AUROC, average precision, sensitivity and specificity with 95 % intervals.

    Intervals are of 1000 bootstrap resamples of patients. A label that a domain knows only one value of is left out.
    """
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, part in measured.by_domain().items():
        probabilities = calibrated(part.logits, temperatures)
        cells = {}
        for index, label in enumerate(labels):
            known = np.isfinite(part.targets[:, index])
            targets, scores = part.targets[known, index], probabilities[known, index]
            if {0.0, 1.0} <= set(targets):
                cells[label] = _cell(targets, scores, part.patients[known], float(thresholds[label]), seed)
        result[name] = cells
    return result


def evaluate_bundle(
    bundle: Bundle,
    sources: Sequence[Source],
    split_file: Path | None = None,
    part: str = "test",
    read_image: Callable[[Path], NDArray[np.float32]] = read_raster,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluate a bundle on images: those of one part of a split file, or all that are given.

    Returns
    -------
    Engine, precision, number of images, and `figures_of_merit` under ``domains``.
    """
    samples = read_sources(sources)
    if split_file is not None:
        samples = read_split(split_file, samples)[part]
    engine = open_engine(bundle)
    measured = measure(engine, bundle, samples, read_image, on_image)
    return {
        "engine": engine.name,
        "precision": engine.precision,
        "images": len(samples),
        "domains": figures_of_merit(measured, bundle.label_names, bundle.temperatures, bundle.thresholds),
    }


def _cell(
    targets: NDArray[np.float32],
    scores: NDArray[np.float32],
    patients: NDArray[np.str_],
    threshold: float,
    seed: int,
) -> dict[str, Any]:
    def figures(rows: NDArray[np.intp]) -> tuple[float, ...]:
        truth, given = targets[rows], scores[rows]
        return (
            auroc(truth, given),
            average_precision(truth, given),
            *sensitivity_specificity(truth, given, threshold),
        )

    names, owner = np.unique(patients, return_inverse=True)
    images_of = [np.flatnonzero(owner == patient) for patient in range(len(names))]
    random = np.random.default_rng(seed)
    resampled = np.array(
        [
            figures(np.concatenate([images_of[i] for i in random.integers(0, len(names), len(names))]))
            for _ in range(RESAMPLES)
        ]
    )
    low, high = np.nanpercentile(resampled, INTERVAL, axis=0)
    cell: dict[str, Any] = {
        "images": len(targets),
        "patients": len(names),
        "positives": int((targets == 1).sum()),
        "threshold": threshold,
    }
    keys = ("auroc", "average_precision", "sensitivity", "specificity")
    for key, value, lower, upper in zip(keys, figures(np.arange(len(targets))), low, high, strict=True):
        cell[key] = round(value, 4)
        cell[f"{key}_interval"] = [round(float(lower), 4), round(float(upper), 4)]
    return cell


def _best_temperature(logits: NDArray[np.float32], targets: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    """Minimise the weighted cross-entropy over log T in [-3, 3] by golden section; it has one minimum there."""

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / math.exp(log_temperature)
        return float((weights * (np.logaddexp(0, scaled) - scaled * targets)).sum())

    low, high, ratio = -3.0, 3.0, (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp((low + high) / 2)
