"""How good a bundle is on labelled images: figures of merit with intervals, of a part and of kinds of patients."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluate.metrics import (
    auroc,
    average_precision,
    brier,
    calibration_errors_by_chance,
    debiased_calibration_error,
    equal_mass_calibration_error,
    expected_calibration_error,
    sensitivity_specificity,
    wilson_interval,
)
from model.evaluate.predictions import Judged, Measured

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


def figures_of_merit(
    measured: Measured, judged: Judged, labels: Sequence[str], seed: int = 2026
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the figures of each domain and label; see `label_figures`."""
    return {
        name: figures_of_labels(measured.chosen(rows), judged.chosen(rows), labels, seed)
        for name, rows in ((str(name), measured.domains == name) for name in np.unique(measured.domains))
    }


def figures_of_labels(
    measured: Measured, judged: Judged, labels: Sequence[str], seed: int = 2026
) -> dict[str, dict[str, Any]]:
    """Return the figures of each label that these images know both values of."""
    cells = {}
    for index, label in enumerate(labels):
        known = np.isfinite(measured.targets[:, index])
        targets = measured.targets[known, index]
        if {0.0, 1.0} <= set(targets):
            cells[label] = label_figures(
                targets,
                judged.probabilities[known, index],
                judged.thresholds[known, index],
                measured.patients[known],
                seed,
            )
    return cells


def label_figures(
    targets: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    thresholds: NDArray[np.float64],
    patients: NDArray[np.str_],
    seed: int = 2026,
) -> dict[str, Any]:
    """Return what one label's answers are worth.

    Parameters
    ----------
    targets, probabilities
        float32 [n], both values among the targets, none unknown.
    thresholds
        float64 [n]: the threshold that each image was judged by.
    patients
        Whose each image is.
    seed
        Of the resamples.

    Returns
    -------
    Counts, confusion matrix, AUROC, average precision, sensitivity, specificity and Brier score with 95 % intervals of
    1000 bootstrap resamples of patients (a share of exactly 0 or 1, which no resample changes, has Wilson's interval
    over patients), and the calibration error with what chance alone would give and how often it gives as much, by bins
    of equal mass, and debiased.
    """
    positive = (probabilities.astype(np.float32) >= thresholds).astype(np.float32)

    def figures(rows: NDArray[np.intp]) -> tuple[float, ...]:
        truth, given = targets[rows], probabilities[rows]
        rates = sensitivity_specificity(truth, positive[rows], 0.5)
        return auroc(truth, given), average_precision(truth, given), *rates, brier(truth, given)

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
    values, counts = np.unique(thresholds, return_counts=True)
    cell: dict[str, Any] = {
        "images": len(targets),
        "patients": len(names),
        "positives": int((targets == 1).sum()),
        "threshold": float(values[counts.argmax()]),
        "confusion": _confusion(targets, positive),
    }
    if len(values) > 1:
        cell["thresholds"] = [float(value) for value in values]
    keys = ("auroc", "average_precision", "sensitivity", "specificity", "brier")
    for key, value, lower, upper in zip(keys, figures(np.arange(len(targets))), low, high, strict=True):
        interval = (float(lower), float(upper))
        if key in ("sensitivity", "specificity") and value in (0.0, 1.0):
            side = targets == (1.0 if key == "sensitivity" else 0.0)
            interval = wilson_interval(value, len(np.unique(patients[side])))
        cell[key] = round(value, 4)
        cell[f"{key}_interval"] = [round(bound, 4) for bound in interval]
    chance, error = (
        calibration_errors_by_chance(probabilities, seed),
        expected_calibration_error(targets, probabilities),
    )
    cell["ece"] = round(error, 4)
    cell["ece_by_chance"] = {
        "mean": round(float(chance.mean()), 4),
        "95th percentile": round(float(np.percentile(chance, 95)), 4),
        "as_much": round(float((chance >= error).mean()), 3),
    }
    cell["ece_equal_mass"] = round(equal_mass_calibration_error(targets, probabilities), 4)
    cell["calibration_error_debiased"] = round(debiased_calibration_error(targets, probabilities), 4)
    return cell


def _confusion(targets: NDArray[np.float32], positive: NDArray[np.float32]) -> dict[str, int]:
    return {
        "true_positive": int(((targets == 1) & (positive == 1)).sum()),
        "false_negative": int(((targets == 1) & (positive == 0)).sum()),
        "false_positive": int(((targets == 0) & (positive == 1)).sum()),
        "true_negative": int(((targets == 0) & (positive == 0)).sum()),
    }
