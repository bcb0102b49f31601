"""Metrics of mutually exclusive classes: accuracy and the confusion matrix, with intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE_OF_THEM = "none of them"


RESAMPLES = 1000


def class_metrics(
    logits: NDArray[np.float32],
    targets: NDArray[np.float32],
    patients: NDArray[np.str_],
    labels: Sequence[str],
    with_rest: bool,
    seed: int = 2026,
) -> dict[str, Any]:
    """Return accuracy, balanced accuracy and the confusion matrix of the most probable class.

    Parameters
    ----------
    logits, targets
        float32 [n, labels]; targets 1 for the image's class, nan where unknown.
    patients
        str [n]: patient of each image.
    labels
        Names of the columns.
    with_rest
        Whether a further class, `NONE_OF_THEM`, has the probability that those of the labels leave up to 1.
    seed
        Of the bootstrap resamples.

    Returns
    -------
    ``names``; ``confusion``, rows true and columns predicted; ``images``; ``accuracy`` with its 95 % interval of
    resampled patients; ``balanced_accuracy``, the mean over the classes. Empty where no image's class is known.
    """
    known = np.isfinite(targets).all(axis=1) & (targets.sum(axis=1) <= 1)
    probabilities = 1 / (1 + np.exp(-logits[known].astype(np.float64)))
    truth = targets[known].astype(int)
    names = tuple(labels)
    if with_rest:
        probabilities = np.concatenate([1 - probabilities.sum(axis=1, keepdims=True), probabilities], axis=1)
        truth = np.concatenate([1 - truth.sum(axis=1, keepdims=True), truth], axis=1)
        names = (NONE_OF_THEM, *names)
    one_class = truth.sum(axis=1) == 1
    if not one_class.any():
        return {}
    predicted, true = probabilities[one_class].argmax(axis=1), truth[one_class].argmax(axis=1)
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (true, predicted), 1)
    images = matrix.sum(axis=1)
    low, high = _interval(predicted == true, patients[known][one_class], seed)
    return {
        "names": list(names),
        "confusion": matrix.tolist(),
        "images": int(images.sum()),
        "accuracy": round(float((predicted == true).mean()), 4),
        "accuracy_interval": [round(low, 4), round(high, 4)],
        "balanced_accuracy": round(float(np.mean((np.diag(matrix) / np.maximum(images, 1))[images > 0])), 4),
    }


def _interval(correct: NDArray[np.bool_], patients: NDArray[np.str_], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval, over patients, of the share of correct predictions."""
    names, patient_of = np.unique(patients, return_inverse=True)
    hits = np.bincount(patient_of, weights=correct, minlength=len(names))
    images = np.bincount(patient_of, minlength=len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    shares = (drawn @ hits) / np.maximum(drawn @ images, 1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return (float(low), float(high)) if math.isfinite(low) else (0.0, 1.0)
