"""The OpenVINO engine: a bundle's compiled network on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.engine.protocol import KERAS_ADVICE, EngineOutput, EngineUnsuitable, Precision, check_shape
from model.engine.transpose_sinking import sink_transpositions


class OpenVinoEngine:
    """Runs the compiled network on the CPU, one image at a time, in one stream; parameters as for `open_engine`."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int) -> None:
        import openvino

        if not bundle.has_compiled_network:
            raise EngineUnsuitable(f"{bundle.name} holds no network compiled for OpenVINO; {KERAS_ADVICE}")
        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not native:
            raise EngineUnsuitable("this processor does not compute bf16; use precision f32 or auto")
        computed = "bf16" if precision == "bf16" or (precision == "auto" and native) else "f32"
        if bundle.is_quantized:
            computed = "f32"  # of the layers that are not int8, as when the golden output was computed
        spec = bundle.preprocessing
        self._shape = (1, spec.size, spec.size, spec.channels)
        try:
            network = core.read_model(bundle.network_path)
            network.reshape(list(self._shape))
            sink_transpositions(network)
            self._compiled: Any = core.compile_model(
                network,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": computed,
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": 1,
                    # several processes share the cores: with pinning, all would run on the first
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or ["no message"])[-1]
            raise EngineUnsuitable(f"{bundle.network_path.name} of {bundle.name} cannot be loaded: {reason}") from error
        self._request: Any = self._compiled.create_infer_request()
        self._name, self._precision = f"openvino {openvino.__version__.split('-')[0]}", computed
        if bundle.is_quantized:
            self._precision = "int8"
        ranks = [len(output.get_partial_shape()) for output in self._compiled.outputs]
        if sorted(ranks) != [2, 4]:
            raise EngineUnsuitable(
                f"{bundle.network_path.name} has outputs of ranks {ranks}; 2 (logits) and 4 (feature map) are needed"
            )
        self._logits, self._activations = ranks.index(2), ranks.index(4)

    @property
    def name(self) -> str:
        """``openvino`` and its version."""
        return self._name

    @property
    def precision(self) -> str:
        """``f32``, ``bf16`` or ``int8``."""
        return self._precision

    def run(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run a batch, float32 [n, size, size, channels]; ValueError where the shape does not fit."""
        check_shape(batch, self._shape[1:])
        logits, activations = [], []
        for image in np.ascontiguousarray(batch, dtype=np.float32):
            self._request.infer([image[np.newaxis]])
            logits.append(np.array(self._request.get_output_tensor(self._logits).data[0], np.float32))
            activations.append(np.array(self._request.get_output_tensor(self._activations).data[0], np.float32))
        return EngineOutput(np.stack(logits), np.stack(activations))
