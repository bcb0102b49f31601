"""Reading prepared images with a bundle: what a worker's child process holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle, load_bundle
from model.bundle.calibration import Calibration, ChosenBy, calibrated
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
from model.explain.gradcam import LogitMaps, closed_form_maps
from model.explain.head import Head
from model.inference.domain_flags import OUTSIDE, domain_flags, untrained_labels
from model.preprocessing.tensor import PreparedImage

__all__ = ["OUTSIDE", "Reader", "Reading", "calibrated", "domain_flags", "untrained_labels"]


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
        Grad-CAM of every label's logit over its temperature, the one for everyone: an image is coloured in one way,
        whatever is known of the patient.
    ood_score
        Distance from the training distribution; 1.0 is the 99th percentile of its own images. None where the bundle
        came without any.
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
        pooled = output.pooled
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
