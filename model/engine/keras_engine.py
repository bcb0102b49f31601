"""The Keras engine: the reference implementation; runs on graphics cards; computes Grad-CAM for any head."""

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.engine.gradient_explainer import GradientExplainer
from model.engine.protocol import EngineOutput, EngineUnsuitable, Precision, check_shape
from model.explain.gradcam import GradCamMaps
from model.network.keras_backend import BackendUnavailable, start_backend
from model.network.keras_files import load_keras_file


class KerasEngine:
    """A bundle's ``weights.keras`` on the backend of `start_backend`; an `Engine` and an `Explainer`.

    Parameters
    ----------
    bundle
        A loaded bundle; its compiled network and its head are not used.
    precision
        ``auto`` or ``f32``.
    threads
        Threads of one inference. JAX ignores it; TensorFlow applies it only before its first computation in a process.

    Raises
    ------
    EngineUnsuitable
        The backend is missing, the precision is not f32, or the weights cannot be loaded.
    """

    def __init__(self, bundle: Bundle, precision: Precision, threads: int) -> None:
        if precision == "bf16":
            raise EngineUnsuitable("the keras engine computes in f32, not bf16; use precision f32 or auto")
        try:
            self._name = f"keras {start_backend(threads)}"
        except BackendUnavailable as error:
            raise EngineUnsuitable(f'{error}; or set [reading] engine = "openvino"') from error
        try:
            network = load_keras_file(bundle.weights_path)
            self._explainer = GradientExplainer(network, bundle.explanation_layer)
        except (ValueError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EngineUnsuitable(
                f"{self._name} cannot run {bundle.weights_path.name} of {bundle.name}: {reason}"
            ) from error
        spec = bundle.preprocessing
        self._shape = (spec.size, spec.size, spec.channels)

    @property
    def name(self) -> str:
        """``keras``, its backend, and the backend's version."""
        return self._name

    @property
    def precision(self) -> str:
        """``f32``."""
        return "f32"

    def run(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run a batch, float32 [n, size, size, channels], in one pass; ValueError where the shape does not fit."""
        check_shape(batch, self._shape)
        return self._explainer.run(np.ascontiguousarray(batch, np.float32))

    def explain(self, batch: NDArray[np.float32], output: EngineOutput) -> list[GradCamMaps]:
        """Return the Grad-CAM maps of each image of a batch; `output` is what `run` returned for it."""
        return [
            self._explainer.maps(image, activations)
            for image, activations in zip(batch, output.activations, strict=True)
        ]
