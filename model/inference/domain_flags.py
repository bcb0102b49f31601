"""Flags of an image outside the training domain of its bundle: age, view, distribution."""

from __future__ import annotations

import math

from model.bundle.bundle import Bundle
from model.bundle.calibration import AgeRanges, Calibration

OUTSIDE = "outside training domain"
"""The flag of a result that must not raise a study's priority."""


UNCHECKED = "out-of-distribution check unavailable"
"""The flag of bundles imported without reference images, which have no training distribution."""


AGES_UNCHECKED = "age check unavailable"
"""The flag of bundles trained on images of unknown age."""


SCORE_LIMIT = 1.0
"""Out-of-distribution score up to which an image is within the training distribution."""


def untrained_labels(
    bundle: Bundle, age_years: float | None, calibration: Calibration | None = None
) -> tuple[str, ...]:
    """Return the labels that the bundle was not trained on at this age.

    Where the age is unknown, the age ranges of `calibration` take its place: that of the group whose training images
    are nearest to the image. Under the calibration of all patients the result is then empty.

    Parameters
    ----------
    bundle
        Its `label_ages`.
    age_years
        The patient's age; None or nan where unknown.
    calibration
        That of the `InferenceResult`.
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
    *,
    age_contradiction: str = "",
) -> tuple[str, ...]:
    """Return the flags of an image outside the bundle's training domain.

    Parameters
    ----------
    bundle
        Its ages, views and labels.
    age_years
        The patient's age; None or nan where unknown, which is flagged as unknown, not as outside.
    view
        View position such as ``PA``; None or empty where unknown, flagged as unknown, not as outside.
    ood_score
        That of the `InferenceResult`; None before inference.
    calibration
        That of the `InferenceResult`; its group's ages count where the patient's age is unknown.
    age_contradiction
        The flag of an image whose header contradicts itself in the age, which then is unknown: outside, where ages,
        thresholds or labels of the bundle depend on the age. ``""`` for all others.

    Returns
    -------
    Flags; `OUTSIDE` first where age, view or distribution is outside, then each reason, then what is unknown.
    """
    outside, unknown = [], []
    if age_contradiction and (bundle.ages or bundle.groups or bundle.label_ages):
        outside.append(age_contradiction)
    elif bundle.ages:
        if age_years is None or not math.isfinite(age_years):
            unknown.append("age unknown")
        elif not any(low <= math.floor(age_years) <= high for low, high in bundle.ages):
            ranges = " and ".join(f"{low:g}-{high:g}" for low, high in bundle.ages)
            outside.append(f"age {math.floor(age_years):g} outside {ranges}")
    elif bundle.description.get("provenance", {}).get("ages_known") is False:
        unknown.append(AGES_UNCHECKED)
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
