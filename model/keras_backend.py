"""Starting Keras on the backend that ``KERAS_BACKEND`` names (TensorFlow by default), for reading and for training."""

import importlib
import importlib.util
import os
import sys
from functools import partial
from importlib.abc import MetaPathFinder

from model.engine import EngineUnsuitable

SUITED = ("tensorflow", "jax")
"""The backends whose gradients this program asks for."""

_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX"}
_INSTALLS = {"tensorflow": "pip install 'cxr-triage[train]'", "jax": "pip install jax"}


def start_backend(threads: int | None = None) -> str:
    """Import Keras, have its backend compute in full float32 and with so many threads; return its name and version.

    Raises
    ------
    EngineUnsuitable
        The backend is not installed, or is none of `SUITED`.
    """
    # both are Keras' and TensorFlow's own variables; what a person set stands
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    asked = os.environ.get("KERAS_BACKEND", "tensorflow")
    if asked not in SUITED:
        raise EngineUnsuitable(f"KERAS_BACKEND is {asked!r}; the keras engine runs on {' or '.join(SUITED)}")
    try:
        import keras

        backend = str(keras.backend.backend())
        library = importlib.import_module(backend)
    except ImportError as error:
        if (error.name or "").split(".")[0] not in _NAMES:
            raise
        name = str(error.name).split(".")[0]
        raise EngineUnsuitable(
            f'the keras engine needs {_NAMES[name]}: {_INSTALLS[name]}; or set [reading] engine = "openvino"'
        ) from error
    if backend not in SUITED:
        raise EngineUnsuitable(f"Keras already runs on {backend}; the keras engine runs on {' or '.join(SUITED)}")
    if backend == "tensorflow":
        _prepare_tensorflow(threads)
    else:
        library.config.update("jax_default_matmul_precision", "highest")
    return f"{backend} {library.__version__}"


def _prepare_tensorflow(threads: int | None) -> None:
    import tensorflow as tf

    # a graphics card would round to TF32 silently, and one process would take all of its memory
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        for card in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(card, True)
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # the process has computed already, and its threads stand
        return


def start_any_backend() -> None:
    """Let Keras run on the first backend that is installed, unless one is named or already loaded; one always is."""
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        found = [name for name in SUITED if importlib.util.find_spec(name) is not None]
        os.environ["KERAS_BACKEND"] = found[0] if found else "openvino"
    _compute_in_float32()


def start_converting() -> None:
    """Let Keras run on the backend that needs neither TensorFlow nor JAX, unless one is named or already loaded."""
    if "keras" not in sys.modules and os.environ.setdefault("KERAS_BACKEND", "openvino") == "openvino":
        sys.meta_path.insert(0, _WithoutTensorflow())
    _compute_in_float32()


def _compute_in_float32() -> None:
    """Have Keras' OpenVINO backend compute in float32.

    It names no precision, and OpenVINO then takes bfloat16 where the processor has it: seen on one with AVX512-BF16, a
    golden output was off by 0.0065 of its largest value.
    """
    if os.environ.get("KERAS_BACKEND") != "openvino":
        return
    import openvino

    if not isinstance(openvino.compile_model, partial):
        openvino.compile_model = partial(openvino.compile_model, config={"INFERENCE_PRECISION_HINT": "f32"})


class _WithoutTensorflow(MetaPathFinder):
    """Keras looks for TensorFlow even where it runs on OpenVINO, which takes seconds and is good for nothing."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Say of TensorFlow that it is not there; know nothing of other modules."""
        if fullname == "tensorflow":
            raise ModuleNotFoundError("TensorFlow is not loaded where networks are converted", name=fullname)
