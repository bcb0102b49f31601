"""Opening the engine that runs a bundle's network, with the check against its golden output."""

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
    """Load the network of a bundle into an engine, ready to run.

    Parameters
    ----------
    bundle
        A loaded bundle.
    precision
        ``auto`` selects bf16 where the processor computes it natively and its output agrees with the golden output
        (compared only with ``check_golden``), else f32.
    threads
        Threads of one inference. A worker runs one process per core, each with one image at a time: 1 is right there.
    check_golden
        Compare the network's output for the golden input with the golden output.
    engine
        ``openvino``, or ``keras``, which needs TensorFlow, JAX or PyTorch.

    Raises
    ------
    EngineUnsuitable
        The engine is not installed, lacks the precision or the compiled network, or differs from the golden output.
    """
    if engine not in get_args(EngineName):
        raise EngineUnsuitable(f"engine is {engine!r}; allowed are {', '.join(get_args(EngineName))}")
    if precision not in get_args(Precision):
        raise EngineUnsuitable(f"engine precision is {precision!r}; allowed are {', '.join(get_args(Precision))}")
    if threads < 1:
        raise EngineUnsuitable(f"engine threads is {threads}; at least 1 is needed")
    opened = _open(bundle, precision, threads, engine)
    if not check_golden:
        return opened
    try:
        check_against_golden(opened, bundle)
    except EngineUnsuitable as difference:
        if precision != "auto" or opened.precision != "bf16":
            raise
        opened = _open(bundle, "f32", threads, engine)
        check_against_golden(opened, bundle)
        _log.warning("%s; falling back to f32, which is slower", difference)
    return opened


def _open(bundle: Bundle, precision: Precision, threads: int, engine: EngineName) -> Engine:
    if engine == "openvino":
        return OpenVinoEngine(bundle, precision, threads)
    from model.engine.keras_engine import KerasEngine  # imported late: it loads Keras and its backend

    return KerasEngine(bundle, precision, threads)
