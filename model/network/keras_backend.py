"""Selection and set-up of Keras' backend, for inference, training and conversion.

``KERAS_BACKEND`` selects it; without it, the first installed one of `SUITED`.
"""

import importlib
import importlib.util
import os
import sys
from functools import partial
from importlib.abc import MetaPathFinder
from typing import ClassVar

from model.network.native_messages import without_loading_messages

SUITED = ("tensorflow", "jax", "torch")
"""The supported backends with gradients, in the order of preference."""

_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
_INSTALLS = {
    "tensorflow": "pip install 'cxr-triage[train]'",
    "jax": "pip install jax",
    "torch": "pip install 'cxr-triage[torch]'",
}


class BackendUnavailable(RuntimeError):
    """Keras' backend is not installed, or is not supported; the message names those that are."""

    exit_code: ClassVar[int] = 1


def chosen_backend(purpose: str = "the keras engine") -> str:
    """Return the backend that Keras runs on or would run on. Nothing is imported.

    Parameters
    ----------
    purpose
        The feature that needs it, for the error message.

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
    backend = os.environ.get("KERAS_BACKEND")
    if backend is None:
        backend = next((name for name in SUITED if _is_installed(name)), None)
        if backend is None:
            names = [_NAMES[name] for name in SUITED]
            raise BackendUnavailable(f"{purpose} needs {', '.join(names[:-1])} or {names[-1]}: {_INSTALLS[SUITED[0]]}")
    if backend not in SUITED:
        raise BackendUnavailable(f"KERAS_BACKEND is {backend!r}; {purpose} runs on {allowed}")
    if not _is_installed(backend):
        raise BackendUnavailable(f"{purpose} needs {_NAMES[backend]}, which KERAS_BACKEND names: {_INSTALLS[backend]}")
    return backend


def start_backend(threads: int | None = None, purpose: str = "the keras engine", *, deterministic: bool = False) -> str:
    """Import Keras and configure its backend for full float32 and a number of threads; return its name and version.

    Parameters
    ----------
    threads
        None: the backend's default. JAX ignores it.
    purpose
        The feature that needs it, for the error message.
    deterministic
        On a graphics card, compute the same bits each time, which is slower; on a processor every backend does.

    Raises
    ------
    BackendUnavailable
        See `chosen_backend`.
    """
    # variables of the backends; values in the environment take precedence
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    backend = chosen_backend(purpose)
    os.environ.setdefault("KERAS_BACKEND", backend)
    if deterministic:  # both are read when the library first computes
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if backend == "jax":
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    with without_loading_messages():
        import keras

        if keras.backend.backend() != backend:
            raise BackendUnavailable(f"Keras runs on {keras.backend.backend()} though KERAS_BACKEND is {backend}")
        library = importlib.import_module(backend)
        if backend == "tensorflow":
            _prepare_tensorflow(threads, deterministic)
    # without these settings graphics cards compute in TF32
    if backend == "jax":
        library.config.update("jax_default_matmul_precision", "highest")
    elif backend == "torch":
        library.backends.cuda.matmul.allow_tf32 = library.backends.cudnn.allow_tf32 = False
        if deterministic and library.cuda.is_available():
            library.use_deterministic_algorithms(True)
        if threads is not None:
            library.set_num_threads(threads)
    return f"{backend} {library.__version__}"


def seed_backend(seed: int) -> None:
    """Seed the random numbers of Keras and its backend; TensorFlow is not imported where another backend runs."""
    import keras

    hiding = [] if keras.backend.backend() == "tensorflow" else [_WithoutTensorflow()]
    sys.meta_path[:0] = hiding
    try:
        keras.utils.set_random_seed(seed)
    finally:
        for finder in hiding:
            sys.meta_path.remove(finder)


def seed_step(seed: int, step: int) -> None:
    """Seed PyTorch's generator for a step, so that a resumed run draws the same.

    On PyTorch Keras' dropout uses that generator; on other backends the layer's own seed generator.
    """
    import keras

    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed((seed << 32) + step)


def running_backend() -> str:
    """Return Keras and its backend with their versions, such as ``Keras 3.15.1 on torch 2.13.0``."""
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


def _prepare_tensorflow(threads: int | None, deterministic: bool) -> None:
    """Set float32, determinism and threads; list the devices, which loads the drivers of graphics cards."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        cards = tf.config.list_physical_devices("GPU")
        if cards and deterministic:
            tf.config.experimental.enable_op_determinism()
        for card in cards:
            tf.config.experimental.set_memory_growth(card, True)
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow has computed in this process: its threads cannot be changed
        return


def start_any_backend() -> None:
    """Select the first installed backend, at last OpenVINO, unless ``KERAS_BACKEND`` is set or Keras is imported."""
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        os.environ["KERAS_BACKEND"] = next((name for name in SUITED if _is_installed(name)), "openvino")
    _compute_in_float32()


def start_converting() -> None:
    """Select Keras' OpenVINO backend for conversion, unless ``KERAS_BACKEND`` is set or Keras is imported."""
    if "keras" not in sys.modules and os.environ.setdefault("KERAS_BACKEND", "openvino") == "openvino":
        sys.meta_path.insert(0, _WithoutTensorflow())
    _compute_in_float32()


def _compute_in_float32() -> None:
    """Make Keras' OpenVINO backend compute in float32.

    It sets no precision, and OpenVINO then selects bfloat16 where the processor has it: with AVX512-BF16 a golden
    output differed by 0.0065 of its largest value.
    """
    if os.environ.get("KERAS_BACKEND") != "openvino":
        return
    import openvino

    if not isinstance(openvino.compile_model, partial):
        openvino.compile_model = partial(openvino.compile_model, config={"INFERENCE_PRECISION_HINT": "f32"})


class _WithoutTensorflow(MetaPathFinder):
    """Hides TensorFlow from Keras, which imports it on other backends too, in seconds and without use."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Raise ModuleNotFoundError for TensorFlow; find no other module."""
        if fullname == "tensorflow":
            raise ModuleNotFoundError("TensorFlow is not loaded where networks are converted", name=fullname)
