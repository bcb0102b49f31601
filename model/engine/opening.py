"""Engines run a bundle's network: tensors in, logits and the feature map out."""

import logging
from typing import get_args

from model.bundle.bundle import Bundle
from model.engine.golden_check import check_against_golden
from model.engine.openvino_engine import OpenVinoEngine
from model.engine.protocol import Engine, EngineName, EngineUnsuitable, Precision

_log = logging.getLogger(__name__)


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
    from model.engine.keras_engine import KerasEngine  # here alone is Keras' backend loaded

    return KerasEngine(bundle, precision, threads)
