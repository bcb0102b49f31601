"""Inference on preprocessed images with a bundle and an engine, as a worker's child process runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle, load_bundle
from model.bundle.calibration import CalibratedBy, Calibration
from model.engine.opening import open_engine
from model.engine.protocol import (
    KERAS_ADVICE,
    Engine,
    EngineName,
    EngineOutput,
    EngineUnsuitable,
    Explainer,
    Precision,
)
from model.explain.gradcam import GradCamMaps, closed_form_maps
from model.explain.head import Head
from model.inference.domain_flags import OUTSIDE, domain_flags, untrained_labels
from model.preprocessing.tensor import PreparedImage

__all__ = ["OUTSIDE", "InferenceResult", "Predictor", "domain_flags", "untrained_labels"]


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """The network's outputs for one image.

    Attributes
    ----------
    logits
        float32 [labels], uncalibrated.
    probabilities
        float32 [labels] in [0, 1], calibrated by `calibration`.
    maps
        Grad-CAM of every label's logit, divided by the temperature of the calibration of all patients, so that the
        colours of an image do not depend on the patient's age.
    ood_score
        Distance from the training distribution; 1.0 is the 99th percentile of in-distribution validation images. None
        where the bundle has no training distribution.
    calibration
        The calibration applied, with its thresholds.
    calibrated_by
        Why that calibration was selected.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    maps: GradCamMaps
    ood_score: float | None
    calibration: Calibration
    calibrated_by: CalibratedBy


class Predictor:
    """Predicts with a bundle on an open engine. To be opened after forking.

    Parameters
    ----------
    bundle
        A loaded bundle.
    engine
        An engine opened on it.

    Raises
    ------
    EngineUnsuitable
        The bundle's head has no closed form, and the engine computes no gradients.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine
        self._explain = _gradcam(bundle, engine)

    @classmethod
    def open(
        cls, bundle_folder: Path, precision: Precision = "auto", threads: int = 1, engine: EngineName = "openvino"
    ) -> "Predictor":
        """Load a bundle and open its engine.

        Raises
        ------
        BundleInvalid, EngineUnsuitable
            See `load_bundle` and `open_engine`.
        """
        bundle = load_bundle(bundle_folder)
        return cls(bundle, open_engine(bundle, precision, threads, engine=engine))

    def predict(
        self, prepared: Sequence[PreparedImage], ages_years: Sequence[float | None] | None = None
    ) -> list[InferenceResult]:
        """Return the result of each image.

        Parameters
        ----------
        prepared
            Images preprocessed as the bundle prescribes.
        ages_years
            The patient's age for each image, None where unknown; omitted: all unknown.

        Raises
        ------
        ValueError
            A tensor's shape does not fit the network.
        """
        if not prepared:
            return []
        batch = np.stack([image.tensor for image in prepared])
        return self.results_of(batch, self.engine.run(batch), ages_years)

    def results_of(
        self, batch: NDArray[np.float32], output: EngineOutput, ages_years: Sequence[float | None] | None = None
    ) -> list[InferenceResult]:
        """Return the result of each image of a batch, float32 [n, size, size, channels], from the engine's output."""
        pooled = output.pooled
        scores, nearest = self.bundle.distribution.score(pooled), self.bundle.distribution.nearest(pooled)
        has_distribution, results = self.bundle.distribution.known, []
        for logits, maps, score, age, domain in zip(
            output.logits,
            self._explain(batch, output),
            scores,
            ages_years or [None] * len(batch),
            nearest,
            strict=True,
        ):
            calibration, calibrated_by = self.bundle.calibration_for(age, domain)
            probabilities = calibration.probabilities(logits)
            scaled = maps.divided(self.bundle.everyone.temperatures)
            ood_score = float(score) if has_distribution else None
            results.append(InferenceResult(logits, probabilities, scaled, ood_score, calibration, calibrated_by))
        return results


def _gradcam(bundle: Bundle, engine: Engine) -> Callable[[NDArray[np.float32], EngineOutput], list[GradCamMaps]]:
    """Return the function that computes Grad-CAM maps: in closed form where the head has one, else by the engine."""
    if bundle.head is not None:
        return partial(_closed_form, bundle.head)
    if isinstance(engine, Explainer):
        return engine.explain
    raise EngineUnsuitable(f"{engine.name} cannot explain {bundle.name}, whose head has no closed form; {KERAS_ADVICE}")


def _closed_form(head: Head, _batch: NDArray[np.float32], output: EngineOutput) -> list[GradCamMaps]:
    return [closed_form_maps(head, activations) for activations in output.activations]
