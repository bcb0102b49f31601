"""Metrics of each domain and label, with 95 % confidence intervals over patients."""

from collections.abc import Callable, Sequence
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
from model.evaluate.predictions import CalibratedPredictions, Predictions

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


def metrics_by_domain(
    predictions: Predictions, calibrated: CalibratedPredictions, labels: Sequence[str], seed: int = 2026
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the metrics of each domain and label; see `label_metrics`."""
    return {
        name: metrics_by_label(predictions.subset(mask), calibrated.subset(mask), labels, seed)
        for name, mask in ((str(name), predictions.domains == name) for name in np.unique(predictions.domains))
    }


def metrics_by_label(
    predictions: Predictions, calibrated: CalibratedPredictions, labels: Sequence[str], seed: int = 2026
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each label that has both positive and negative images; see `label_metrics`."""
    cells = {}
    for index, label in enumerate(labels):
        known = np.isfinite(predictions.targets[:, index])
        targets = predictions.targets[known, index]
        if {0.0, 1.0} <= set(targets):
            cells[label] = label_metrics(
                targets,
                calibrated.probabilities[known, index],
                calibrated.thresholds[known, index],
                predictions.patients[known],
                seed,
            )
    return cells


def interval_over_patients(
    statistics: Callable[[NDArray[np.intp]], float | tuple[float, ...]], patients: NDArray[np.str_], seed: int = 2026
) -> NDArray[np.float64]:
    """Return the 95 % interval of statistics, from `RESAMPLES` bootstrap resamples of patients.

    Parameters
    ----------
    statistics
        Returns them for the images with these indices; nan: not defined for these, left out.
    patients
        str [n]: patient of each image.
    seed
        Of the resamples.

    Returns
    -------
    float64 [2] or [2, statistics]: lower and upper ends.
    """
    names, patient_of = np.unique(patients, return_inverse=True)
    images_of = [np.flatnonzero(patient_of == patient) for patient in range(len(names))]
    random = np.random.default_rng(seed)
    resampled = [
        statistics(np.concatenate([images_of[i] for i in random.integers(0, len(names), len(names))]))
        for _ in range(RESAMPLES)
    ]
    return np.asarray(np.nanpercentile(np.array(resampled), INTERVAL, axis=0))


def label_metrics(
    targets: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    thresholds: NDArray[np.float64],
    patients: NDArray[np.str_],
    seed: int = 2026,
) -> dict[str, Any]:
    """Return the metrics of one label.

    Parameters
    ----------
    targets, probabilities
        float32 [n]; targets 0 and 1, both of which occur.
    thresholds
        float64 [n]: the threshold of each image's calibration.
    patients
        str [n]: patient of each image.
    seed
        Of the bootstrap resamples.

    Returns
    -------
    Counts and the confusion matrix; AUROC, average precision, sensitivity, specificity and Brier score with 95 %
    percentile intervals of `RESAMPLES` bootstrap resamples of patients (a sensitivity or specificity of exactly 0 or 1,
    which no resample changes, has Wilson's interval over patients); the ECE, with mean and 95th percentile of the ECE
    by chance and the share of chance draws that reach it (``as_much``), the ECE of equal-mass bins, and the debiased
    calibration error.
    """
    positive = (probabilities.astype(np.float32) >= thresholds).astype(np.float32)

    def metrics(rows: NDArray[np.intp]) -> tuple[float, ...]:
        truth, scores = targets[rows], probabilities[rows]
        rates = sensitivity_specificity(truth, positive[rows], 0.5)
        return auroc(truth, scores), average_precision(truth, scores), *rates, brier(truth, scores)

    low, high = interval_over_patients(metrics, patients, seed)
    values, counts = np.unique(thresholds, return_counts=True)
    cell: dict[str, Any] = {
        "images": len(targets),
        "patients": len(np.unique(patients)),
        "positives": int((targets == 1).sum()),
        "threshold": float(values[counts.argmax()]),
        "confusion": _confusion(targets, positive),
    }
    if len(values) > 1:
        cell["thresholds"] = [float(value) for value in values]
    keys = ("auroc", "average_precision", "sensitivity", "specificity", "brier")
    for key, value, lower, upper in zip(keys, metrics(np.arange(len(targets))), low, high, strict=True):
        interval = (float(lower), float(upper))
        if key in ("sensitivity", "specificity") and value in (0.0, 1.0):
            of_class = targets == (1.0 if key == "sensitivity" else 0.0)
            interval = wilson_interval(value, len(np.unique(patients[of_class])))
        cell[key] = round(value, 4)
        cell[f"{key}_interval"] = [round(bound, 4) for bound in interval]
    error = expected_calibration_error(targets, probabilities)
    chance = calibration_errors_by_chance(probabilities, seed)
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
