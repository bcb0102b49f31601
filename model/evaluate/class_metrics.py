"""Metrics of mutually exclusive classes: accuracy and the confusion matrix, with intervals by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE_OF_THEM = "none of them"


RESAMPLES = 1000


def class_figures(
    logits: NDArray[np.float32],
    targets: NDArray[np.float32],
    patients: NDArray[np.str_],
    labels: Sequence[str],
    with_rest: bool,
    seed: int = 2026,
) -> dict[str, Any]:
    """Return how often the likeliest class is the true one.

    Parameters
    ----------
    logits, targets
        float32 [n, labels]; targets 1 for the image's class, nan where unknown.
    patients
        Whose each image is.
    labels
        Names of the columns.
    with_rest
        Whether an image may be of none of them: what the labels' probabilities leave over.

    Returns
    -------
    Names; the confusion matrix, a row a true class and a column a class that was said; accuracy with its 95 % interval
    of resampled patients; and accuracy averaged over the classes. Empty where no image's class is known.
    """
    known = np.isfinite(targets).all(axis=1) & (targets.sum(axis=1) <= 1)
    given = 1 / (1 + np.exp(-logits[known].astype(np.float64)))
    truth = targets[known].astype(int)
    names = tuple(labels)
    if with_rest:
        given = np.concatenate([1 - given.sum(axis=1, keepdims=True), given], axis=1)
        truth = np.concatenate([1 - truth.sum(axis=1, keepdims=True), truth], axis=1)
        names = (NONE_OF_THEM, *names)
    placed = truth.sum(axis=1) == 1
    if not placed.any():
        return {}
    said, true = given[placed].argmax(axis=1), truth[placed].argmax(axis=1)
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (true, said), 1)
    images = matrix.sum(axis=1)
    low, high = _interval(said == true, patients[known][placed], seed)
    return {
        "names": list(names),
        "confusion": matrix.tolist(),
        "images": int(images.sum()),
        "accuracy": round(float((said == true).mean()), 4),
        "accuracy_interval": [round(low, 4), round(high, 4)],
        "balanced_accuracy": round(float(np.mean((np.diag(matrix) / np.maximum(images, 1))[images > 0])), 4),
    }


def _interval(right: NDArray[np.bool_], patients: NDArray[np.str_], seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, of resampled patients."""
    names, owner = np.unique(patients, return_inverse=True)
    hits = np.bincount(owner, weights=right, minlength=len(names))
    images = np.bincount(owner, minlength=len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    shares = (drawn @ hits) / np.maximum(drawn @ images, 1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return (float(low), float(high)) if math.isfinite(low) else (0.0, 1.0)
