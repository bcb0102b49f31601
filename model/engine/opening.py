"""Engines run a bundle's network: tensors in, logits and the feature map out."""

import logging
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.gradcam import LogitMaps
from model.layout import sink_transpositions

_log = logging.getLogger(__name__)

Precision = Literal["auto", "f32", "bf16"]
EngineName = Literal["openvino", "keras"]

KERAS_ADVICE = 'set [reading] engine = "keras"'

GOLDEN_TOLERANCES: dict[str, tuple[float, float]] = {"f32": (2e-3, 2e-3), "bf16": (5e-2, 5e-2), "int8": (5e-2, 5e-2)}
"""Largest difference allowed from the golden output, a precision: of the logits over (1 + the largest logit), and of
the feature map over its largest value. Measured on a processor with AMX: f32 1e-6, bf16 6e-3; others differ."""


class EngineUnsuitable(RuntimeError):
    """The engine cannot run this bundle on this machine as asked; the message says why and what would do."""


@dataclass(frozen=True, eq=False)
class EngineOutput:
    """What a network answers.

    Attributes
    ----------
    logits
        float32 [n, labels].
    activations
        float32 [n, h, w, channels], the feature map that the head reads.
    """

    logits: NDArray[np.float32]
    activations: NDArray[np.float32]


class Engine(Protocol):
    """Runs one network in this process."""

    @property
    def name(self) -> str:
        """Name and version, as a result records it."""

    @property
    def precision(self) -> str:
        """What it computes in: f32, bf16 or int8."""

    def run(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run float32 [n, size, size, channels]; a ValueError names a shape that does not fit."""


@runtime_checkable
class Explainer(Protocol):
    """What an engine is that can explain any head by itself, not only those with a closed form."""

    def explain(self, batch: NDArray[np.float32], output: EngineOutput) -> list[LogitMaps]:
        """Return the Grad-CAM maps of every image of a batch and of what ``run`` gave for it."""


def open_engine(
    bundle: Bundle,
    precision: Precision = "auto",
    threads: int = 1,
    check_golden: bool = True,
    engine: EngineName = "openvino",
) -> Engine:
    """Open the network of a bundle, ready to run.

    Parameters
    ----------
    bundle
        A loaded bundle.
    precision
        ``auto`` takes bf16 where the processor computes it natively and it meets the golden output (which is looked
        at with ``check_golden`` alone), else f32.
    threads
        Of one inference. Images come one at a time to a process a core, so 1 is right for a worker.
    check_golden
        Compare the network's answer to the golden input with the golden output first.
    engine
        ``openvino``, or ``keras``, which needs TensorFlow, JAX or PyTorch.

    Raises
    ------
    EngineUnsuitable
        The engine is not installed, lacks the precision or the compiled network, or misses the golden output.
    """
    if engine not in get_args(EngineName):
        raise EngineUnsuitable(f"engine is {engine!r}; allowed are {', '.join(get_args(EngineName))}")
    if precision not in get_args(Precision):
        raise EngineUnsuitable(f"engine precision is {precision!r}; allowed are {', '.join(get_args(Precision))}")
    if threads < 1:
        raise EngineUnsuitable(f"engine threads is {threads}; at least 1 is needed")
    opened = _opened(bundle, precision, threads, engine)
    if not check_golden:
        return opened
    try:
        check_against_golden(opened, bundle)
    except EngineUnsuitable as missed:
        if precision != "auto" or opened.precision != "bf16":
            raise
        opened = _opened(bundle, "f32", threads, engine)
        check_against_golden(opened, bundle)
        _log.warning("%s: it computes in f32, slower", missed)
    return opened


def _opened(bundle: Bundle, precision: Precision, threads: int, engine: EngineName) -> Engine:
    if engine == "openvino":
        return OpenVinoEngine(bundle, precision, threads)
    from model.keras_engine import KerasEngine  # here alone is Keras' backend loaded

    return KerasEngine(bundle, precision, threads)


def check_shape(batch: NDArray[np.float32], image: tuple[int, ...]) -> None:
    """Raise a ValueError unless a batch holds images float32 [size, size, channels] of this shape."""
    if batch.ndim != 4 or batch.shape[1:] != image or not len(batch):
        raise ValueError(f"a batch of shape {batch.shape} does not fit; [n, {', '.join(map(str, image))}] does")


HEAD_TOLERANCE = 2e-3
"""Largest difference allowed between golden logits and what the head makes of the golden feature map, over (1 + the
largest logit). That is stored as float16; measured on DenseNet121: 6e-6."""


def check_against_golden(engine: Engine, bundle: Bundle) -> tuple[float, float]:
    """Return how far an engine is from the golden output (logits, feature map); raise EngineUnsuitable if too far.

    The head that explains must give the golden logits too: otherwise its maps would be of another network.
    """
    golden = bundle.golden
    try:
        output = engine.run(golden.tensors)
    except ValueError as error:
        raise EngineUnsuitable(f"the golden input of {bundle.name} is none: {error}") from error
    if output.logits.shape != golden.logits.shape or output.activations.shape != golden.activations.shape:
        raise EngineUnsuitable(
            f"{engine.name} answers {bundle.name} with shapes {output.logits.shape} and {output.activations.shape}; "
            f"golden are {golden.logits.shape} and {golden.activations.shape}"
        )
    _check_head(bundle)
    logits = float(np.abs(output.logits - golden.logits).max() / (1 + np.abs(golden.logits).max()))
    largest = max(float(np.abs(golden.activations).max()), 1e-30)  # a feature map may be empty
    activations = float(np.abs(output.activations - golden.activations).max()) / largest
    allowed = GOLDEN_TOLERANCES[engine.precision]
    if not (logits <= allowed[0] and activations <= allowed[1]):
        raise EngineUnsuitable(
            f"{engine.name} in {engine.precision} misses the golden output of {bundle.name}: logits by {logits:.2g} "
            f"(allowed {allowed[0]:g}), feature map by {activations:.2g} (allowed {allowed[1]:g})"
        )
    return logits, activations


def _check_head(bundle: Bundle) -> None:
    head, golden = bundle.head, bundle.golden
    if head is None:
        return
    try:
        found = np.stack([head.logits(head.pooled(activations)) for activations in golden.activations])
        distance = float(np.abs(found - golden.logits).max() / (1 + np.abs(golden.logits).max()))
    except ValueError as error:
        raise EngineUnsuitable(f"the head of {bundle.name} does not fit its golden feature map: {error}") from error
    if not distance <= HEAD_TOLERANCE:
        raise EngineUnsuitable(
            f"the head of {bundle.name} is not its network's: of the golden feature map it makes logits that miss the "
            f"golden ones by {distance:.2g} (allowed {HEAD_TOLERANCE:g}); restore the bundle from its source"
        )


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
