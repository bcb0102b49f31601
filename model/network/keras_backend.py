"""Starting Keras on the backend that ``KERAS_BACKEND`` names (TensorFlow by default), for reading and for training."""

import importlib
import importlib.util
import os
import sys
from functools import partial
from importlib.abc import MetaPathFinder
from typing import ClassVar

SUITED = ("tensorflow", "jax", "torch")
"""The backends whose gradients this program asks for; of those installed the first is taken."""

_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
_INSTALLS = {
    "tensorflow": "pip install 'cxr-triage[train]'",
    "jax": "pip install jax",
    "torch": "pip install 'cxr-triage[torch]'",
}


class BackendUnavailable(RuntimeError):
    """Keras' backend is not installed, or is not one that computes gradients; the message says which would do."""

    exit_code: ClassVar[int] = 1


def chosen_backend(purpose: str = "the keras engine") -> str:
    """Return the backend that Keras runs on, or will: the one that ``KERAS_BACKEND`` names, else the first installed.

    Nothing is imported.

    Parameters
    ----------
    purpose
        What needs it, for the message.

    Raises
    ------
    BackendUnavailable
        The backend is not installed, or is none of `SUITED`.
    """
    allowed = f"{', '.join(SUITED[:-1])} or {SUITED[-1]}"
    if "keras" in sys.modules:
        running = str(sys.modules["keras"].backend.backend())
        if running not in SUITED:
            raise BackendUnavailable(f"Keras already runs on {running}; {purpose} runs on {allowed}")
        return running
    asked = os.environ.get("KERAS_BACKEND")
    if asked is None:
        asked = next((name for name in SUITED if _is_installed(name)), None)
        if asked is None:
            names = [_NAMES[name] for name in SUITED]
            raise BackendUnavailable(f"{purpose} needs {', '.join(names[:-1])} or {names[-1]}: {_INSTALLS[SUITED[0]]}")
    if asked not in SUITED:
        raise BackendUnavailable(f"KERAS_BACKEND is {asked!r}; {purpose} runs on {allowed}")
    if not _is_installed(asked):
        raise BackendUnavailable(f"{purpose} needs {_NAMES[asked]}, which KERAS_BACKEND names: {_INSTALLS[asked]}")
    return asked


def start_backend(threads: int | None = None, purpose: str = "the keras engine") -> str:
    """Import Keras, have its backend compute in full float32 and with so many threads; return its name and version.

    Parameters
    ----------
    threads
        JAX takes no number of them.
    purpose
        See `chosen_backend`, which also says what is raised.
    """
    # these are the backends' own variables; what a person set stands
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    backend = chosen_backend(purpose)
    os.environ.setdefault("KERAS_BACKEND", backend)
    import keras

    if keras.backend.backend() != backend:
        raise BackendUnavailable(f"Keras runs on {keras.backend.backend()} though KERAS_BACKEND is {backend}")
    library = importlib.import_module(backend)
    # a graphics card would round to TF32 silently
    if backend == "tensorflow":
        _prepare_tensorflow(threads)
    elif backend == "jax":
        library.config.update("jax_default_matmul_precision", "highest")
    else:
        library.backends.cuda.matmul.allow_tf32 = library.backends.cudnn.allow_tf32 = False
        if threads is not None:
            library.set_num_threads(threads)
    return f"{backend} {library.__version__}"


def seed_backend(seed: int) -> None:
    """Seed what Keras and its backend draw. Keras would load TensorFlow to seed that too, whichever backend runs."""
    import keras

    hiding = [] if keras.backend.backend() == "tensorflow" else [_WithoutTensorflow()]
    sys.meta_path[:0] = hiding
    try:
        keras.utils.set_random_seed(seed)
    finally:
        for finder in hiding:
            sys.meta_path.remove(finder)


def seed_step(seed: int, step: int) -> None:
    """Have PyTorch draw the same in this step, whatever it drew before.

    Keras' dropout there draws from PyTorch's own generator; on other backends from the layer's.
    """
    import keras

    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed((seed << 32) + step)


def running_backend() -> str:
    """Return Keras and the backend that it runs on, with versions: ``Keras 3.15.1 on torch 2.13.0``."""
    import keras

    backend = str(keras.backend.backend())
    return f"Keras {keras.__version__} on {backend} {importlib.import_module(backend).__version__}"


def is_any_installed() -> bool:
    """Return whether any of `SUITED` is installed."""
    return any(map(_is_installed, SUITED))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _prepare_tensorflow(threads: int | None) -> None:
    import tensorflow as tf

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
        os.environ["KERAS_BACKEND"] = next((name for name in SUITED if _is_installed(name)), "openvino")
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
