"""Figures of merit in NumPy: areas under curves, rates at a threshold, and how true probabilities are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Bins of equal width that the calibration error and the reliability curve use."""

FLOOR_DRAWS = 300


def auroc(targets: NDArray[np.float32], scores: NDArray[np.floating[Any]]) -> float:
    """Return the area under the ROC curve of known targets (ties count half), nan where only one class is there."""
    known = np.isfinite(targets)
    targets, scores = targets[known], scores[known]
    positives, negatives = int((targets == 1).sum()), int((targets == 0).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = _average_ranks(scores)
    return float((ranks[targets == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(targets: NDArray[np.float32], scores: NDArray[np.floating[Any]]) -> float:
    """Return the average precision (area under precision-recall by steps), nan without positives."""
    known = np.isfinite(targets)
    targets, scores = targets[known], scores[known]
    if not (targets == 1).any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(targets[order] == 1)
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / hits[-1]
    precision, recall = precision[last_of_tie], recall[last_of_tie]
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))


def sensitivity_specificity(
    targets: NDArray[np.float32], scores: NDArray[np.float32], threshold: float
) -> tuple[float, float]:
    """Return the shares of positives at or above the threshold and of negatives below it; nan where there are none."""
    positives, negatives = scores[targets == 1], scores[targets == 0]
    sensitivity = float((positives >= threshold).mean()) if positives.size else float("nan")
    specificity = float((negatives < threshold).mean()) if negatives.size else float("nan")
    return sensitivity, specificity


def brier(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float:
    """Return the mean squared difference of probabilities from what was there, nan without images."""
    return float(((probabilities.astype(np.float64) - targets) ** 2).mean()) if len(targets) else float("nan")


def reliability(
    targets: NDArray[np.float32], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return images, mean probability and share of positives of each filled bin, in order of probability."""
    bins = np.minimum((probabilities.astype(np.float64) * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    said = np.bincount(bins, weights=probabilities, minlength=BINS)[filled] / counts[filled]
    there = np.bincount(bins, weights=targets, minlength=BINS)[filled] / counts[filled]
    return counts[filled], said, there


def expected_calibration_error(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float:
    """Return how far probabilities are from the share of positives, averaged over images (Guo et al. 2017)."""
    counts, said, there = reliability(targets, probabilities)
    return float((counts * np.abs(said - there)).sum() / counts.sum()) if len(counts) else float("nan")


def equal_mass_calibration_error(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float:
    """Return the same of `BINS` bins that hold as many images each, by probability: none is nearly empty."""
    return float(sum(n * abs(said - there) for n, said, there in _equal_mass(targets, probabilities)) / len(targets))


def debiased_calibration_error(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float:
    """Return the root mean square error of bins of equal mass less what chance adds to it (Kumar et al. 2019, 4.1).

    Chance widens each bin's squared distance by its share's variance, which is estimated and taken off; 0 where nothing
    is left.
    """
    total = 0.0
    for n, said, there in _equal_mass(targets, probabilities):
        total += n * ((said - there) ** 2 - there * (1 - there) / max(1, n - 1))
    return float(np.sqrt(max(0.0, total / len(targets))))


def calibration_errors_by_chance(probabilities: NDArray[np.float32], seed: int = 2026) -> NDArray[np.float64]:
    """Return the calibration errors that perfect probabilities would show, float64 [`FLOOR_DRAWS`], ascending.

    Whether each finding is there is drawn from the probabilities themselves: so many images can show no smaller error
    than these are on average, and an error above nearly all of them is no chance.
    """
    random = np.random.default_rng(seed)
    draws = (random.random((FLOOR_DRAWS, len(probabilities))) < probabilities).astype(np.float32)
    return np.sort([expected_calibration_error(drawn, probabilities) for drawn in draws])


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of so many (Wilson 1927), which does not vanish at 0 and 1."""
    if not number:
        return 0.0, 1.0
    z = 1.959964
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * float(np.sqrt(share * (1 - share) / number + z * z / (4 * number**2)))
    return max(0.0, centre - half), min(1.0, centre + half)


def _equal_mass(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> list[tuple[int, float, float]]:
    """Return images, mean probability and share of positives of each bin of equal mass."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), min(BINS, len(targets)))
    return [
        (len(rows), float(probabilities[rows].mean(dtype=np.float64)), float(targets[rows].mean(dtype=np.float64)))
        for rows in parts
    ]


def _average_ranks(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(ordered))
    ranks = np.empty(len(values), np.float64)
    ranks[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return ranks
