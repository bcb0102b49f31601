"""Starting Keras on the backend that ``KERAS_BACKEND`` names (TensorFlow by default), for reading and for training."""

import importlib
import os

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
