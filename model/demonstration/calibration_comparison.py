"""Comparison of forms of calibration by cross-validation over the patients of the validation part.

Test images are not used. The criterion is the log loss on held-out patients; the calibration error of a hundred images
is as large by chance.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluate.calibration_fit import SLOPES, fit_platt
from model.evaluate.metrics import expected_calibration_error
from model.evaluate.predictions import Predictions

FOLDS, REPEATS = 5, 6
PULLS = (1.0, 10.0)
"""Strengths of an L2 penalty on the difference of the slopes from their mean, added to the summed log loss."""
TAKEN = "slope and bias a label (Platt)"
"""What `fit_calibration` fits."""

Array = NDArray[np.float64]
_Calibrator = Callable[[Array], Array]
"""Logits [n, labels] to probabilities of the same shape."""


def compare_forms(validation: Predictions, labels: Sequence[str], seed: int = 2026) -> dict[str, dict[str, Any]]:
    """Return log loss and ECE of each form of calibration on held-out patients, for each domain.

    Parameters
    ----------
    validation
        Predictions for the validation part.
    labels
        Names, in the order of the logits; those with positive and negative images in a domain are compared.

    Returns
    -------
    By domain: ``labels``, and ``forms`` with ``log_loss`` (mean over images and labels) and ``ece`` (mean over labels),
    each the mean of `REPEATS` cross-validations with `FOLDS` folds of patients.
    """
    comparison = {}
    for domain, part in validation.by_domain().items():
        known = [i for i in range(len(labels)) if {0.0, 1.0} <= set(part.targets[np.isfinite(part.targets[:, i]), i])]
        rows = np.isfinite(part.targets[:, known]).all(axis=1) if known else np.zeros(len(part.targets), bool)
        _, owner = np.unique(part.patients[rows], return_inverse=True)
        if not rows.any() or owner.max() + 1 < 4 * FOLDS:
            continue
        logits, targets = part.logits[rows][:, known].astype(np.float64), part.targets[rows][:, known]
        forms = {name: _cross_validated(fit, logits, targets, owner, seed) for name, fit in _forms(len(known)).items()}
        comparison[domain] = {"labels": [labels[i] for i in known], "forms": forms}
    return comparison


def _forms(width: int) -> dict[str, Callable[[Array, NDArray[np.float32]], _Calibrator]]:
    def pulled(pull: float, towards: float | None = None) -> Callable[[Array, NDArray[np.float32]], _Calibrator]:
        return lambda x, y: _affine(*_pulled(x, y, pull, towards))

    together = {f"slopes drawn towards their mean, by {pull:g}": pulled(pull) for pull in PULLS}
    together["one slope for all labels"] = pulled(1e4)
    return {
        TAKEN: lambda x, y: _affine(*_own(x, y)),
        **(together if width > 1 else {}),
        "bias a label, no slope": pulled(1e4, 1.0),
        "isotonic": _isotonic,
    }


def _cross_validated(
    fit: Callable[[Array, NDArray[np.float32]], _Calibrator],
    logits: Array,
    targets: NDArray[np.float32],
    owner: NDArray[np.intp],
    seed: int,
) -> dict[str, float]:
    losses, errors = [], []
    for repeat in range(REPEATS):
        fold = (np.random.default_rng(seed + repeat).permutation(owner.max() + 1) % FOLDS)[owner]
        held_out = np.empty_like(logits)
        for number in range(FOLDS):
            held_out[fold == number] = fit(logits[fold != number], targets[fold != number])(logits[fold == number])
        clipped = np.clip(held_out, 1e-3, 1 - 1e-3)  # isotonic regression gives 0 and 1: one error, an infinite loss
        losses.append(float(-(targets * np.log(clipped) + (1 - targets) * np.log(1 - clipped)).mean()))
        errors += [
            expected_calibration_error(targets[:, i], held_out[:, i].astype(np.float32)) for i in range(logits.shape[1])
        ]
    return {"log_loss": round(float(np.mean(losses)), 4), "ece": round(float(np.mean(errors)), 4)}


def _affine(slopes: Array, biases: Array) -> _Calibrator:
    return lambda logits: 0.5 * (1 + np.tanh((slopes * logits + biases) / 2))


def _own(logits: Array, targets: NDArray[np.float32]) -> tuple[Array, Array]:
    pairs = [fit_platt(logits[:, i].astype(np.float32), targets[:, i]) for i in range(logits.shape[1])]
    return np.array([slope for slope, _ in pairs]), np.array([bias for _, bias in pairs])


def _pulled(
    logits: Array, targets: NDArray[np.float32], pull: float, towards: float | None = None
) -> tuple[Array, Array]:
    """Fit all labels together, with a penalty pull * (slope - their mean or a given slope)^2 on the summed log loss."""
    from scipy.optimize import minimize

    width = logits.shape[1]

    def loss(parameters: Array) -> tuple[float, Array]:
        slopes, biases, middle = parameters[:width], parameters[width : 2 * width], parameters[2 * width]
        z = slopes * logits + biases
        miss = 0.5 * (1 + np.tanh(z / 2)) - targets
        apart = slopes - middle
        value = float((np.logaddexp(0, z) - targets * z).sum() + pull * (apart**2).sum())
        by_slope = (miss * logits).sum(axis=0) + 2 * pull * apart
        return value, np.concatenate([by_slope, miss.sum(axis=0), [-2 * pull * float(apart.sum())]])

    middle = SLOPES if towards is None else (towards, towards)
    bounds = [SLOPES] * width + [(None, None)] * width + [middle]
    start = np.concatenate([np.ones(width), np.zeros(width), [1.0]])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:width], found[width : 2 * width]


def _isotonic(logits: Array, targets: NDArray[np.float32]) -> _Calibrator:
    from sklearn.isotonic import IsotonicRegression

    width = logits.shape[1]
    steps = [IsotonicRegression(out_of_bounds="clip").fit(logits[:, i], targets[:, i]) for i in range(width)]
    return lambda some: np.column_stack([step.predict(some[:, i]) for i, step in enumerate(steps)])
