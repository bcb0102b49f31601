"""The engine for CPUs: the compiled network of a bundle, on OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.engine.protocol import KERAS_ADVICE, EngineOutput, EngineUnsuitable, Precision, check_shape
from model.engine.transpose_sinking import sink_transpositions


class OpenVinoEngine:
    """OpenVINO on the CPU, one image at a time, one stream."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int) -> None:
        import openvino

        if not bundle.has_compiled_network:
            raise EngineUnsuitable(f"{bundle.name} holds no network compiled for OpenVINO; {KERAS_ADVICE}")
        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not native:
            raise EngineUnsuitable("this processor does not compute bf16; use precision f32 or auto")
        chosen = "bf16" if precision == "bf16" or (precision == "auto" and native) else "f32"
        if bundle.is_quantized:
            chosen = "f32"  # of what is left unquantized, whatever the processor: the golden output was made so
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
                    "INFERENCE_PRECISION_HINT": chosen,
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": 1,
                    # several processes share the cores: pinned, they would all sit on the first
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or ["no message"])[-1]
            raise EngineUnsuitable(f"{bundle.network_path.name} of {bundle.name} cannot be opened: {reason}") from error
        self._request: Any = self._compiled.create_infer_request()
        self._name, self._precision = f"openvino {openvino.__version__.split('-')[0]}", chosen
        if bundle.is_quantized:
            self._precision = "int8"
        ranks = [len(output.get_partial_shape()) for output in self._compiled.outputs]
        if sorted(ranks) != [2, 4]:
            raise EngineUnsuitable(
                f"{bundle.network_path.name} has outputs of ranks {ranks}; logits and a map are needed"
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
        """Run float32 [n, size, size, channels]."""
        check_shape(batch, self._shape[1:])
        logits, activations = [], []
        for image in np.ascontiguousarray(batch, dtype=np.float32):
            self._request.infer([image[np.newaxis]])
            logits.append(np.array(self._request.get_output_tensor(self._logits).data[0], np.float32))
            activations.append(np.array(self._request.get_output_tensor(self._activations).data[0], np.float32))
        return EngineOutput(np.stack(logits), np.stack(activations))
