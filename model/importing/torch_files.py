"""Opening PyTorch files of others with ``weights_only``: tensors are read, no code of the file is run.

Whole pickled networks, too, are read without running anything, once the classes named in them are replaced by
containers that do nothing; the tensors are then taken out by name. Only those that PyTorch before 1.6 wrote cannot be
read so, and torchxrayvision publishes such: there its own program has to save the weights alone.
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

# What PyTorch's reader raises on bytes that are not what they claim to be.
_READING_ERRORS = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(MemoryError, OverflowError, struct.error),
)
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_ROOT = "features.conv0.weight"
_NESTS = ("state_dict", "model_state_dict", "model", "net", "network")


class _Shell:
    """Stands for a class that a file names; holds what was in it, and does nothing."""

    def __init__(self, *_arguments: object, **_keywords: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


_SHELLS = (
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
    # what training scripts leave beside the weights: scores, counters
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    "numpy.dtype",
    "numpy.float64",
    "torch.nn.backends.thnn.THNNFunctionBackend",
    "torch.nn.backends.thnn._get_thnn_function_backend",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TorchWeights:
    """What a file holds of a network.

    Attributes
    ----------
    tensors
        float32, by the names that torchvision's DenseNet has today.
    operating_points
        torchxrayvision's ``op_threshs``, one an output, nan where unknown; None where there are none.
    """

    tensors: dict[str, NDArray[np.float32]]
    operating_points: list[float] | None


def load_torch_file(path: Path) -> TorchWeights:
    """Read the weights of a DenseNet from a PyTorch file that anybody may have made.

    Parameters
    ----------
    path
        A state dict, a checkpoint with one in it, or a whole pickled DenseNet.

    Raises
    ------
    ImportRefused
        PyTorch is not installed; the file is damaged, needs code to be run, or holds no DenseNet.
    """
    if importlib.util.find_spec("torch") is None:
        raise ImportRefused(path, TORCH_MISSING)
    import torch

    shells: list[Any] = [(type("Shell", (_Shell,), {"__module__": __name__}), name) for name in _SHELLS]
    try:
        with torch.serialization.safe_globals(shells), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sources that it cannot compare
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "persistent_load" in str(error):
            raise ImportRefused(path, _whole(path)) from error
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it names {named[1]}, which" if named else "it holds objects that"
        raise ImportRefused(path, f"{what} could run code on this machine; {SAVE_STATE}") from error
    except _READING_ERRORS as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ImportRefused(path, f"PyTorch cannot read it, it may be damaged or truncated: {reason}") from error
    found = dict(_tensors(_unwrapped(content), ""))
    return _named(path, {name: value for name, value in found.items() if isinstance(value, torch.Tensor)})


def _whole(path: Path) -> str:
    """Say what to do with a whole network that PyTorch before 1.6 pickled, as torchxrayvision publishes them."""
    recipe = recognize(path.name)
    how = SAVE_STATE
    if recipe is not None:
        save = f"torch.save(x.models.DenseNet(weights='{recipe.name}').state_dict(), '{recipe.name}.pt')"
        how = (
            'save its weights alone with torchxrayvision itself, python -c "import torch, torchxrayvision as x; '
            f'{save}", and import that'
        )
    return f"it is a whole pickled network of an old kind, which cannot be opened without running code in it; {how}"


def _unwrapped(content: Any) -> Any:  # noqa: ANN401 - whatever was saved
    """Return the state dict or the network that a training script's checkpoint holds."""
    for name in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(name), (Mapping, _Shell)):
            return content[name]
    return content


def _tensors(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield what `state_dict` would: a pickled module keeps its tensors and parts in three tables."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield f"{prefix}{name}", value
    elif isinstance(content, _Shell):
        inside = vars(content)
        for table in ("_parameters", "_buffers"):
            for name, value in (inside.get(table) or {}).items():
                yield f"{prefix}{name}", value
        for name, part in (inside.get("_modules") or {}).items():
            yield from _tensors(part, f"{prefix}{name}.")
        if prefix == "" and "op_threshs" in inside:
            yield "op_threshs", inside["op_threshs"]


def _named(path: Path, tensors: Mapping[str, Any]) -> TorchWeights:
    """Rename to what torchvision's DenseNet calls its weights, whatever they were wrapped in."""
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
