"""Fitting calibrations and thresholds on the validation part; test images must not be passed to it.

Platt scaling with SciPy's optimizer: scikit-learn offers it for estimators alone, and without a bound on the slope.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle.calibration import AgeRanges, Calibration, calibrated_probabilities
from model.evaluate.predictions import Predictions

RESAMPLES = 200
"""Bootstrap resamples of patients over which the median threshold is taken: with a dozen positives, the best threshold
of a single sample is chance."""

SLOPES = (0.05, 20.0)
"""Bounds of 1 / temperature. Positive: where the validation part ranks a label inversely, the label is made
uninformative, not inverted."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FittedCalibration:
    """The calibration of all patients, and one of each domain that stands for an age group."""

    everyone: Calibration
    groups: tuple[Calibration, ...]


def fit_calibration(
    validation: Predictions,
    labels: Sequence[str],
    domain_ages: Mapping[str, AgeRanges] | None = None,
    seed: int = 2026,
) -> FittedCalibration:
    """Fit temperature, bias and threshold of every label.

    Parameters
    ----------
    validation
        Predictions for the validation part.
    labels
        Names, in the order of the logits.
    domain_ages
        Age ranges, in completed years, that a domain stands for; each such domain gets a calibration of its own. A
        label without both positive and negative images in a domain keeps there the calibration of all patients.
    seed
        Of the bootstrap resamples.

    Notes
    -----
    A probability is the frequency of the finding in the validation part at that logit, so it carries that part's
    prevalence. Thresholds maximise sensitivity + specificity (Youden's index), averaged over the domains.
    """
    everyone = _fit(validation, labels, None, "", (), seed)
    parts = validation.by_domain()
    groups = tuple(
        _fit(parts[domain], labels, everyone, domain, tuple(ages), seed)
        for domain, ages in (domain_ages or {}).items()
        if domain in parts
    )
    return FittedCalibration(everyone, groups)


def fit_platt(logits: NDArray[np.float32], targets: NDArray[np.float32]) -> tuple[float, float]:
    """Return the (slope, bias) of ``sigmoid(slope * logit + bias)`` with the least cross-entropy.

    Targets are smoothed as by Platt (1999), to (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that perfectly separated
    classes do not lead to probabilities of 0 and 1.

    Parameters
    ----------
    logits, targets
        float32 [n]; targets 0 and 1, both of which occur.
    """
    from scipy.optimize import minimize

    x = logits.astype(np.float64)
    positives = int((targets == 1).sum())
    negatives = len(targets) - positives
    smoothed = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: Array) -> tuple[float, Array]:
        z = parameters[0] * x + parameters[1]
        residual = 0.5 * (1 + np.tanh(z / 2)) - smoothed
        return float((np.logaddexp(0, z) - smoothed * z).mean()), np.array([(residual * x).mean(), residual.mean()])

    fitted = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[SLOPES, (None, None)])
    return float(fitted.x[0]), float(fitted.x[1])


def best_threshold(
    targets: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    domains: NDArray[np.str_],
    patients: NDArray[np.str_],
    seed: int = 2026,
) -> float:
    """Return the threshold with the largest sensitivity + specificity, each averaged over the domains.

    The median, in log odds, of the best thresholds of `RESAMPLES` bootstrap resamples of patients.

    Parameters
    ----------
    targets, probabilities
        float32 [n].
    domains, patients
        str [n].
    seed
        Of the resamples.

    Returns
    -------
    A probability in (0, 1); 0.5 where no resample has both classes.
    """
    _, patient_of = np.unique(patients, return_inverse=True)
    cells = np.unique(np.char.add(domains, np.where(targets == 1, "+", "-")), return_inverse=True)[1]
    random = np.random.default_rng(seed)
    scores = probabilities.astype(np.float64)
    number = int(patient_of.max()) + 1
    log_odds = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(random.integers(0, number, number), minlength=number)[patient_of].astype(np.float64)
        totals = np.bincount(cells, weights=drawn)
        weights = drawn / np.where(totals > 0, totals, 1.0)[cells]
        threshold = _best_threshold(targets, scores, weights)
        if threshold is not None:
            log_odds.append(np.log(threshold / (1 - threshold)))
    if not log_odds:
        return 0.5
    return float(1 / (1 + np.exp(-np.median(log_odds))))


def _fit(
    part: Predictions,
    labels: Sequence[str],
    fallback: Calibration | None,
    group: str,
    ages: AgeRanges,
    seed: int,
) -> Calibration:
    width = len(labels)
    temperatures = np.ones(width, np.float32) if fallback is None else fallback.temperatures.copy()
    biases = np.zeros(width, np.float32) if fallback is None else fallback.biases.copy()
    thresholds = dict.fromkeys(labels, 0.5) if fallback is None else dict(fallback.thresholds)
    for index, name in enumerate(labels):
        known = np.isfinite(part.targets[:, index])
        if not {0.0, 1.0} <= set(part.targets[known, index]):
            continue
        labelled = part.subset(known)
        logits, targets = labelled.logits[:, index], labelled.targets[:, index]
        slope, bias = fit_platt(logits, targets)
        temperatures[index], biases[index] = round(1 / slope, 6), round(bias, 6)
        probabilities = calibrated_probabilities(logits, temperatures[index], biases[index])
        threshold = best_threshold(targets, probabilities, labelled.domains, labelled.patients, seed)
        thresholds[name] = round(min(max(threshold, 1e-4), 1 - 1e-4), 6)
    return Calibration(group, ages, temperatures, biases, thresholds)


def _best_threshold(targets: NDArray[np.float32], scores: Array, weights: Array) -> float | None:
    """Return the best threshold midway between two neighbouring scores; None where one class or two scores are missing.

    Of several that are equally good, the middle one.
    """
    order = np.argsort(scores, kind="stable")
    scores, gains = scores[order], (weights * np.where(targets == 1, -1.0, 1.0))[order]
    if not (gains > 0).any() or not (gains < 0).any():
        return None
    ends = np.flatnonzero((np.diff(scores) > 0) & (scores[1:] > 0) & (scores[:-1] < 1))
    if not len(ends):
        return None
    youden = np.cumsum(gains)[ends]
    best = ends[youden >= youden.max() - 1e-12]
    middle = best[len(best) // 2]
    return float(min(max((scores[middle] + scores[middle + 1]) / 2, 1e-6), 1 - 1e-6))
