"""Reading prepared images with a bundle: what a worker's child process holds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle, load_bundle
from model.calibration import AgeRanges, Calibration, ChosenBy, calibrated
from model.engine import (
    KERAS_ADVICE,
    Engine,
    EngineName,
    EngineOutput,
    EngineUnsuitable,
    Explainer,
    Precision,
    open_engine,
)
from model.gradcam import LogitMaps, closed_form_maps
from model.head import Head
from model.preprocessing import PreparedImage

__all__ = ["OUTSIDE", "Reader", "Reading", "calibrated", "domain_flags", "untrained_labels"]

OUTSIDE = "outside training domain"
"""The flag that keeps a result from raising a priority."""

UNCHECKED = "likeness unchecked"
"""The flag of models that came without reference images: nobody knows whether an image is like them."""

SCORE_LIMIT = 1.0


@dataclass(frozen=True, eq=False)
class Reading:
    """What the network says of one image.

    Attributes
    ----------
    logits
        float32 [labels], as the network gives them.
    probabilities
        float32 [labels], by `calibration`.
    maps
        Grad-CAM of every label's logit over its temperature, the one for everyone: one film is coloured in one way,
        whatever is known of the patient.
    ood_score
        How unlike the training images: 1.0 is the 99th percentile of images like them. None where the bundle came
        without any.
    calibration
        What made the probabilities; its thresholds are those of this reading.
    calibrated_by
        Why it was that one.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    maps: LogitMaps
    ood_score: float | None
    calibration: Calibration
    calibrated_by: ChosenBy


class Reader:
    """A bundle and an open engine. Open it after forking.

    Raises
    ------
    EngineUnsuitable
        The bundle's head has no closed form, and the engine cannot explain it either.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine
        self._explain = _explanation(bundle, engine)

    @classmethod
    def open(
        cls, bundle_folder: Path, precision: Precision = "auto", threads: int = 1, engine: EngineName = "openvino"
    ) -> "Reader":
        """Load a bundle and open its engine.

        Raises
        ------
        BundleInvalid, EngineUnsuitable
            See `load_bundle` and `open_engine`.
        """
        bundle = load_bundle(bundle_folder)
        return cls(bundle, open_engine(bundle, precision, threads, engine=engine))

    def read(
        self, prepared: Sequence[PreparedImage], ages_years: Sequence[float | None] | None = None
    ) -> list[Reading]:
        """Read images made with the bundle's own preprocessing.

        Parameters
        ----------
        prepared
            The images.
        ages_years
            The patient's age an image, None where unknown; left out: all unknown.
        """
        if not prepared:
            return []
        batch = np.stack([image.tensor for image in prepared])
        return self.of_output(batch, self.engine.run(batch), ages_years)

    def of_output(
        self, batch: NDArray[np.float32], output: EngineOutput, ages_years: Sequence[float | None] | None = None
    ) -> list[Reading]:
        """Return the readings of what the engine gave for a batch; see `read`."""
        pooled = output.activations.mean(axis=(1, 2))
        scores, nearest = self.bundle.distribution.score(pooled), self.bundle.distribution.nearest(pooled)
        known, readings = self.bundle.distribution.known, []
        for logits, maps, score, age, domain in zip(
            output.logits,
            self._explain(batch, output),
            scores,
            ages_years or [None] * len(batch),
            nearest,
            strict=True,
        ):
            calibration, why = self.bundle.calibration_for(age, domain)
            probabilities = calibration.probabilities(logits)
            scaled = maps.divided(self.bundle.everyone.temperatures)
            readings.append(Reading(logits, probabilities, scaled, float(score) if known else None, calibration, why))
        return readings


def _explanation(bundle: Bundle, engine: Engine) -> Callable[[NDArray[np.float32], EngineOutput], list[LogitMaps]]:
    """Return what explains a bundle's answers: its head where that has a closed form, for nothing; else the engine."""
    if bundle.head is not None:
        return partial(_closed_form, bundle.head)
    if isinstance(engine, Explainer):
        return engine.explain
    raise EngineUnsuitable(f"{engine.name} cannot explain {bundle.name}, whose head has no closed form; {KERAS_ADVICE}")


def _closed_form(head: Head, _batch: NDArray[np.float32], output: EngineOutput) -> list[LogitMaps]:
    return [closed_form_maps(head, activations) for activations in output.activations]


def untrained_labels(
    bundle: Bundle, age_years: float | None, calibration: Calibration | None = None
) -> tuple[str, ...]:
    """Return the labels that the bundle was not trained on at this age.

    Where the age is unknown, those that it was not trained on at any age of the patients whose calibration the image
    got, because it looks like theirs; none where that is for everyone.
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
    """Say in plain words where an image leaves what the bundle was made for.

    Parameters
    ----------
    bundle
        Its ages, views and labels.
    age_years
        None where unknown: said, but not outside.
    view
        Position such as ``PA``; None or empty where unknown: said, but not outside.
    ood_score
        Of a `Reading`, or None before it was read.
    calibration
        Of a `Reading`: whose the image is like where the age is unknown.

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
        outside.append(f"unlike the training images (score {ood_score:.1f})")
    if not bundle.distribution.known:
        unknown.append(UNCHECKED)
    untrained = untrained_labels(bundle, age_years, calibration)
    if untrained and age_years is not None and math.isfinite(age_years):
        unknown.append(f"not trained at this age, not counted: {', '.join(untrained)}")
    elif untrained and calibration is not None:
        unknown.append(f"like {calibration.group}, not trained there, not counted: {', '.join(untrained)}")
    return (*((OUTSIDE, *outside) if outside else ()), *unknown)
