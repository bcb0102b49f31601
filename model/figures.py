"""Figures of merit in NumPy: areas under curves and rates at a threshold."""

import numpy as np
from numpy.typing import NDArray


def auroc(targets: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Return the area under the ROC curve of known targets (ties count half), nan where only one class is there."""
    known = np.isfinite(targets)
    targets, scores = targets[known], scores[known]
    positives, negatives = int((targets == 1).sum()), int((targets == 0).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = _average_ranks(scores)
    return float((ranks[targets == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(targets: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
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


def _average_ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(ordered))
    ranks = np.empty(len(values), np.float64)
    ranks[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return ranks
