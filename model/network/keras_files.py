"""Loading of untrusted Keras files: their configuration is checked before anything in them is executed."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from model.network.keras2_files import check_order_of_weights, is_keras2, translated_copy
from model.network.keras_types import KerasModel

SUFFIXES = (".keras", ".h5", ".hdf5")

_HDF5 = b"\x89HDF"
_ZIP = b"PK\x03\x04"
_UNSAFE = ("Lambda", "__lambda__")
_WRAPPERS = ("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Keras' layers that load or unpickle models of other libraries."""

MOST_CONFIGURATION = 64 << 20
"""Largest size, in bytes, of a network's JSON configuration; DenseNet121 has a thousandth of it."""

MOST_NESTED = 100
"""Largest depth of that JSON; nested networks have about twenty levels."""

_TOO_DEEP = f"its configuration is nested more than {MOST_NESTED} levels deep"

SAVE_WHOLE = "save the whole network: network.save('network.keras')"


class ImportRefused(ValueError):
    """A file cannot be imported as a model; ``reason`` says what is wrong, its value, and what is allowed."""

    exit_code: ClassVar[int] = 1

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def load_keras_file(path: Path, unsafe: bool = False) -> KerasModel:
    """Load a Keras network from an untrusted file.

    Parameters
    ----------
    path
        A ``.keras`` or ``.h5`` file of a whole network, of Keras 3 or 2 (`model.network.keras2_files`).
    unsafe
        Run the code in the file's Lambda layers. Only for files of one's own.

    Returns
    -------
    keras.Model, not compiled.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ImportRefused
        The file is damaged, or holds no network, weights alone, code, or layers that are not Keras' own.
    """
    path = Path(path)
    config = read_configuration(path)
    code = sorted({name for name, kind, _ in _parts(config) if kind in _UNSAFE})
    if code and not unsafe:
        raise ImportRefused(
            path,
            f"it carries code that would run on this machine, in the layers {', '.join(code)} (Lambda); build the "
            "network with Keras' own layers, or say --unsafe if you made the file yourself",
        )
    foreign = sorted(
        {f"{kind} ({module})" for _, kind, module in _parts(config) if not _is_keras(module) or kind in _WRAPPERS}
    )
    if foreign:
        raise ImportRefused(
            path, f"it needs {', '.join(foreign)}; only Keras' own layers and functions can be imported"
        )
    import keras

    try:
        if not is_keras2(path):
            return keras.models.load_model(path, compile=False, safe_mode=not unsafe)
        with translated_copy(path, config) as copy:
            network = keras.models.load_model(copy, compile=False, safe_mode=not unsafe)
        check_order_of_weights(network, path)
        return network
    except MemoryError as error:
        raise ImportRefused(path, "its network is larger than this machine's memory") from error
    except Exception as error:  # Keras and its backends raise any exception on malformed files
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise ImportRefused(path, f"Keras {keras.__version__} cannot load it: {reason}") from error


def read_configuration(path: Path) -> dict[str, Any]:
    """Return the configuration of a file's network without executing it; raises as `load_keras_file` does."""
    if path.is_dir():
        raise ImportRefused(path, f"it is a folder; of a SavedModel or a checkpoint, {SAVE_WHOLE}")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise FileNotFoundError(f"model {path} does not exist") from None
    except OSError as error:
        raise ImportRefused(path, f"it cannot be read: {error.strerror or error}") from error
    kinds = {_HDF5: (".h5", ".hdf5"), _ZIP: (".keras",)}
    if magic not in kinds or path.suffix.lower() not in SUFFIXES:
        raise ImportRefused(path, f"it is no Keras file (allowed are {', '.join(SUFFIXES)})")
    if path.suffix.lower() not in kinds[magic]:
        raise ImportRefused(
            path, f"its content is not of the kind of its suffix; rename it to {path.stem}{kinds[magic][0]}"
        )
    try:
        text = _of_hdf5(path) if magic == _HDF5 else _of_zip(path)
        config = _parsed(text) if text is not None else None
    except (OSError, KeyError, zipfile.BadZipFile, EOFError, ValueError, TypeError) as error:
        raise ImportRefused(path, f"it is damaged or truncated: {error}") from error
    if not isinstance(config, dict):
        raise ImportRefused(path, f"it holds weights alone, without their network; {SAVE_WHOLE}")
    return config


def _of_hdf5(path: Path) -> str | None:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    return text.decode("utf-8") if isinstance(text, bytes) else text


def _of_zip(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            return None
        size = archive.getinfo("config.json").file_size
        if size > MOST_CONFIGURATION:
            raise ValueError(f"its config.json has {size} bytes; allowed are {MOST_CONFIGURATION}")
        return archive.read("config.json").decode("utf-8")


def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    """Parse a configuration; ValueError where it is nested more than `MOST_NESTED` levels deep."""
    try:
        config = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level: list[Any] = [config]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise ValueError(_TOO_DEEP)
    return config


def _parts(config: Any, name: str = "") -> Iterator[tuple[str, str, str]]:  # noqa: ANN401 - JSON
    """Yield (name, class, module) of every object with a class in a network's configuration."""
    if isinstance(config, list):
        for entry in config:
            yield from _parts(entry, name)
    elif isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict):
            name = str(inner.get("name", config.get("name", name)))
        if isinstance(config.get("class_name"), str):
            # custom classes are identified by their registered name; Keras 2 recorded no modules
            own = ">" in str(config.get("registered_name") or "")
            module = config.get("registered_name") if own else config.get("module")
            yield name, config["class_name"], str(module or "keras")
        for key, value in config.items():
            if key not in ("build_config", "compile_config", "registered_name"):
                yield from _parts(value, name)


def _is_keras(module: str) -> bool:
    return module.split(".")[0] in ("keras", "builtins", "keras_core", "tf_keras") or module.startswith(
        "tensorflow.python.keras"
    )
