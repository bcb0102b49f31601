"""Flags of a result outside what its bundle was trained on: age, view, distribution."""

from __future__ import annotations

import math

from model.bundle.bundle import Bundle
from model.bundle.calibration import AgeRanges, Calibration

OUTSIDE = "outside training domain"
"""The flag that keeps a result from raising a priority."""


UNCHECKED = "out-of-distribution check unavailable"
"""The flag of models imported without reference images: there is nothing to compare an image with."""


SCORE_LIMIT = 1.0


def untrained_labels(
    bundle: Bundle, age_years: float | None, calibration: Calibration | None = None
) -> tuple[str, ...]:
    """Return the labels that the bundle was not trained on at this age.

    Where the age is unknown: those not trained at any age of the group whose calibration the image got because its
    features are nearest to that group's; none where the image got the calibration for everyone.
    """
    if age_years is not None and math.isfinite(age_years):
        ages: AgeRanges = ((math.floor(age_years), math.floor(age_years)),)
    elif calibration is not None and calibration.ages:
        ages = calibration.ages
    else:
        return ()
    return tuple(
        label
        for label, ranges in bundle.label_ages.items()
        if not any(low <= oldest and youngest <= high for low, high in ranges for youngest, oldest in ages)
    )


def domain_flags(
    bundle: Bundle,
    age_years: float | None,
    view: str | None,
    ood_score: float | None,
    calibration: Calibration | None = None,
) -> tuple[str, ...]:
    """Return the flags of an image outside what the bundle was made for.

    Parameters
    ----------
    bundle
        Its ages, views and labels.
    age_years
        None where unknown: flagged as unknown, not as outside.
    view
        Position such as ``PA``; None or empty where unknown: flagged as unknown, not as outside.
    ood_score
        Of a `Reading`; None before inference.
    calibration
        Of a `Reading`: of the group that the image was assigned to where the age is unknown.

    Returns
    -------
    Flags, "outside training domain" first where anything is outside.
    """
    outside, unknown = [], []
    if bundle.ages:
        if age_years is None or not math.isfinite(age_years):
            unknown.append("age unknown")
        elif not any(low <= math.floor(age_years) <= high for low, high in bundle.ages):
            ranges = " and ".join(f"{low:g}-{high:g}" for low, high in bundle.ages)
            outside.append(f"age {math.floor(age_years):g} outside {ranges}")
    if bundle.views:
        if not view:
            unknown.append("view unknown")
        elif view.upper() not in bundle.views:
            outside.append(f"view {view.upper()} is none of {', '.join(bundle.views)}")
    if ood_score is not None and not ood_score <= SCORE_LIMIT:
        outside.append(f"out of distribution (score {ood_score:.1f})")
    if not bundle.distribution.known:
        unknown.append(UNCHECKED)
    untrained = untrained_labels(bundle, age_years, calibration)
    if untrained and age_years is not None and math.isfinite(age_years):
        unknown.append(f"label not validated for this age group; not counted: {', '.join(untrained)}")
    elif untrained and calibration is not None:
        unknown.append(
            f"label not validated for {calibration.group}, whose images this one resembles; not counted: "
            + ", ".join(untrained)
        )
    return (*((OUTSIDE, *outside) if outside else ()), *unknown)
