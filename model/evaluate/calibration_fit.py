"""Calibration and thresholds from the validation part: nothing here may see a test image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle.calibration import AgeRanges, Calibration, calibrated
from model.evaluate.predictions import Measured

RESAMPLES = 200
"""Resamples of patients that a threshold is the median of: with a dozen positives, one resample's best is chance."""

SLOPES = (0.05, 20.0)
"""Allowed 1 / temperature. Never negative: a label that validation puts the wrong way round is told apart by none."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FittedCalibration:
    """What the validation part says: one calibration for everyone, and one a domain that stands for ages."""

    everyone: Calibration
    groups: tuple[Calibration, ...]


def fit_calibration(
    validation: Measured,
    labels: Sequence[str],
    domain_ages: Mapping[str, AgeRanges] | None = None,
    seed: int = 2026,
) -> FittedCalibration:
    """Fit temperature, bias and threshold of every label.

    Parameters
    ----------
    validation
        Answers to the validation part.
    labels
        Names, in the order of the logits.
    domain_ages
        The ages that a domain stands for; each such domain gets a calibration of its own. A label that a domain does
        not know, or knows one value of only, is calibrated there as for everyone.
    seed
        Of the resamples.

    Notes
    -----
    A probability means how often the finding was there in the validation part at such a logit, so it carries that
    part's prevalence. A threshold is the largest sensitivity + specificity, averaged over the domains.
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
    """Return the (slope, bias) of ``sigmoid(slope * logit + bias)`` that fit best.

    Targets are drawn towards one half as Platt (1999) did, (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that a part whose
    classes are divided perfectly does not give certainty.

    Parameters
    ----------
    logits, targets
        float32 [n]; targets 0 or 1, both among them.
    """
    from scipy.optimize import minimize

    x = logits.astype(np.float64)
    positives = int((targets == 1).sum())
    negatives = len(targets) - positives
    drawn = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: Array) -> tuple[float, Array]:
        z = parameters[0] * x + parameters[1]
        miss = 0.5 * (1 + np.tanh(z / 2)) - drawn
        return float((np.logaddexp(0, z) - drawn * z).mean()), np.array([(miss * x).mean(), miss.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[SLOPES, (None, None)])
    return float(found.x[0]), float(found.x[1])


def best_threshold(
    targets: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    domains: NDArray[np.str_],
    patients: NDArray[np.str_],
    seed: int = 2026,
) -> float:
    """Return the threshold with the largest sensitivity + specificity, each averaged over the domains.

    The median of the best of many resamples of patients, taken in logits; within (0, 1).
    """
    _, owner = np.unique(patients, return_inverse=True)
    cells = np.unique(np.char.add(domains, np.where(targets == 1, "+", "-")), return_inverse=True)[1]
    random = np.random.default_rng(seed)
    scores = probabilities.astype(np.float64)
    people = int(owner.max()) + 1
    found = []
    for _ in range(RESAMPLES):
        times = np.bincount(random.integers(0, people, people), minlength=people)[owner].astype(np.float64)
        totals = np.bincount(cells, weights=times)
        weights = times / np.where(totals > 0, totals, 1.0)[cells]
        cut = _best_cut(targets, scores, weights)
        if cut is not None:
            found.append(np.log(cut / (1 - cut)))
    if not found:
        return 0.5
    return float(1 / (1 + np.exp(-np.median(found))))


def _fit(
    part: Measured,
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
        chosen = part.chosen(known)
        logits, targets = chosen.logits[:, index], chosen.targets[:, index]
        slope, bias = fit_platt(logits, targets)
        temperatures[index], biases[index] = round(1 / slope, 6), round(bias, 6)
        probabilities = calibrated(logits, temperatures[index], biases[index])
        cut = best_threshold(targets, probabilities, chosen.domains, chosen.patients, seed)
        thresholds[name] = round(min(max(cut, 1e-4), 1 - 1e-4), 6)
    return Calibration(group, ages, temperatures, biases, thresholds)


def _best_cut(targets: NDArray[np.float32], scores: Array, weights: Array) -> float | None:
    """Return the middle of the best cuts between neighbouring scores, or None where one class or score is missing."""
    order = np.argsort(scores, kind="stable")
    scores, gains = scores[order], (weights * np.where(targets == 1, -1.0, 1.0))[order]
    if not (gains > 0).any() or not (gains < 0).any():
        return None
    ends = np.flatnonzero((np.diff(scores) > 0) & (scores[1:] > 0) & (scores[:-1] < 1))
    if not len(ends):
        return None
    merits = np.cumsum(gains)[ends]
    best = ends[merits >= merits.max() - 1e-12]
    middle = best[len(best) // 2]
    return float(min(max((scores[middle] + scores[middle + 1]) / 2, 1e-6), 1 - 1e-6))
