"""Loading of untrusted PyTorch files with ``weights_only``: tensors are read, no code in the file is executed.

Whole pickled networks are read without executing code too: the classes named in them are replaced by inert containers,
from which the tensors are taken by name. Only those that PyTorch before 1.6 wrote cannot be read this way.
torchxrayvision publishes such files; it must first save their weights alone.
"""

import importlib.util
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.importing.known_networks import recognize
from model.network.keras_files import ImportRefused

TORCH_MISSING = "PyTorch is needed to read its weights: pip install 'cxr-triage[torch]'"

SAVE_STATE = (
    "save the weights alone where the file was made, torch.save(network.state_dict(), 'weights.pt'), and import that"
)

# What torch.load raises on malformed files.
_READING_ERRORS = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(MemoryError, OverflowError, struct.error),
)
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_ROOT = "features.conv0.weight"
_NESTS = ("state_dict", "model_state_dict", "model", "net", "network")


class _Inert:
    """Takes the place of a class that a file names: holds the attributes, without methods."""

    def __init__(self, *_arguments: object, **_keywords: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


_ALLOWED = (
    *(f"torchxrayvision.models.{name}" for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")),
    *(f"torchvision.models.densenet.{name}" for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")),
    *(
        f"torch.nn.modules.{name}"
        for name in (
            "container.Sequential", "container.ModuleDict", "container.ModuleList", "conv.Conv2d",
            "batchnorm.BatchNorm2d", "activation.ReLU", "activation.Sigmoid", "pooling.MaxPool2d", "pooling.AvgPool2d",
            "pooling.AdaptiveAvgPool2d", "linear.Linear", "dropout.Dropout",
        )
    ),
    "torch.nn.parallel.data_parallel.DataParallel",
    # objects in checkpoints beside the weights: scores, counters
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    "numpy.dtype",
    "numpy.float64",
    "torch.nn.backends.thnn.THNNFunctionBackend",
    "torch.nn.backends.thnn._get_thnn_function_backend",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TorchWeights:
    """The weights of a network in a file.

    Attributes
    ----------
    tensors
        float32, by their names in torchvision's DenseNet.
    operating_points
        torchxrayvision's ``op_threshs``, one per output, nan where unknown; None where the file has none.
    """

    tensors: dict[str, NDArray[np.float32]]
    operating_points: list[float] | None


def load_torch_file(path: Path) -> TorchWeights:
    """Load the weights of a DenseNet from an untrusted PyTorch file.

    Parameters
    ----------
    path
        A state dict, a checkpoint with one in it, or a whole pickled DenseNet.

    Raises
    ------
    ImportRefused
        PyTorch is not installed; the file is damaged, can only be loaded by executing code, or holds no DenseNet.
    """
    if importlib.util.find_spec("torch") is None:
        raise ImportRefused(path, TORCH_MISSING)
    import torch

    inert: list[Any] = [(type("Inert", (_Inert,), {"__module__": __name__}), name) for name in _ALLOWED]
    try:
        with torch.serialization.safe_globals(inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of source code that PyTorch cannot compare
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "persistent_load" in str(error):
            raise ImportRefused(path, _legacy_advice(path)) from error
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it names {named[1]}, which" if named else "it holds objects that"
        raise ImportRefused(path, f"{what} could run code on this machine; {SAVE_STATE}") from error
    except _READING_ERRORS as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ImportRefused(path, f"PyTorch cannot read it, it may be damaged or truncated: {reason}") from error
    values = dict(_tensors(_unwrapped(content), ""))
    return _named(path, {name: value for name, value in values.items() if isinstance(value, torch.Tensor)})


def _legacy_advice(path: Path) -> str:
    """Return how to convert a whole network that PyTorch before 1.6 pickled."""
    network = recognize(path.name)
    how = SAVE_STATE
    if network is not None:
        save = f"torch.save(x.models.DenseNet(weights='{network.name}').state_dict(), '{network.name}.pt')"
        how = (
            'save its weights alone with torchxrayvision itself, python -c "import torch, torchxrayvision as x; '
            f'{save}", and import that'
        )
    return (
        f"it is a whole network pickled by PyTorch before 1.6, which cannot be loaded without running its code; {how}"
    )


def _unwrapped(content: Any) -> Any:  # noqa: ANN401 - whatever was saved
    """Return the state dict or network within a training script's checkpoint; other content unchanged."""
    for name in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(name), (Mapping, _Inert)):
            return content[name]
    return content


def _tensors(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield names and tensors as `state_dict` does: a pickled module has tensors and submodules in three tables."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield f"{prefix}{name}", value
    elif isinstance(content, _Inert):
        attributes = vars(content)
        for table in ("_parameters", "_buffers"):
            for name, value in (attributes.get(table) or {}).items():
                yield f"{prefix}{name}", value
        for name, module in (attributes.get("_modules") or {}).items():
            yield from _tensors(module, f"{prefix}{name}.")
        if prefix == "" and "op_threshs" in attributes:
            yield "op_threshs", attributes["op_threshs"]


def _named(path: Path, tensors: Mapping[str, Any]) -> TorchWeights:
    """Return the weights by their names in torchvision's DenseNet, without the prefix of a wrapping module."""
    roots = [name.removesuffix(_ROOT) for name in tensors if name.endswith(_ROOT)]
    if len(roots) != 1:
        some = ", ".join(list(tensors)[:4]) or "no tensors"
        raise ImportRefused(
            path, f"it holds no DenseNet, whose first weights are called {_ROOT} (found: {some}); only DenseNets can "
            "be imported from PyTorch, anything else from Keras"
        )  # fmt: skip
    named, points = {}, None
    for name, tensor in tensors.items():
        if name in ("op_threshs", f"{roots[0]}op_threshs"):
            points = [float(value) for value in tensor.double().numpy().reshape(-1)]
        elif name.startswith(roots[0]) and not name.endswith("num_batches_tracked"):
            key = _OLD_NAME.sub(r"\1\2.", name.removeprefix(roots[0]))
            key = re.sub(r"^classifier\.0\.", "classifier.", key)
            named[key] = np.ascontiguousarray(tensor.detach().float().numpy())
    return TorchWeights(named, points)
