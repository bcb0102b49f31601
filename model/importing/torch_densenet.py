"""Conversion of PyTorch's DenseNet to Keras: the same layers and padding, with PyTorch's batch normalisation epsilon.

Keras' DenseNet has an epsilon of 1.001e-5, PyTorch's 1e-5. Keras pads the first max pooling with zeros, PyTorch with
minus infinity: after a ReLU the results are equal. Average pooling drops incomplete windows in both.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.network.keras_files import ImportRefused
from model.network.keras_types import KerasModel

Tensors = Mapping[str, NDArray[np.float32]]

EPSILON = 1e-5

_KINDS = {(6, 12, 24, 16): "DenseNet121", (6, 12, 32, 32): "DenseNet169", (6, 12, 48, 32): "DenseNet201"}


def densenet_from_torch(path: Path, tensors: Tensors, size: int) -> KerasModel:
    """Build the Keras network of a PyTorch DenseNet's weights.

    Parameters
    ----------
    path
        The weights' file, for error messages.
    tensors
        Weights by their names in torchvision's and torchxrayvision's DenseNet.
    size
        Rows and columns of the input.

    Returns
    -------
    keras.Model
        float32 [n, size, size, channels] -> float32 logits [n, labels]; its last feature map is layer ``relu``.

    Raises
    ------
    ImportRefused
        The network is none of DenseNet-121, -169 and -201, or weights are missing, surplus, or of another shape.
    """
    import keras

    blocks = _blocks(tensors)
    if blocks not in _KINDS:
        known = ", ".join(f"{kind} {list(sizes)}" for sizes, kind in _KINDS.items())
        raise ImportRefused(path, f"its dense blocks have {list(blocks)} layers; allowed are {known}")
    labels = [value.shape for name, value in tensors.items() if re.fullmatch(r"classifier\.weight", name)]
    if not labels:
        heads = ", ".join(name for name in tensors if not name.startswith("features.")) or "none"
        raise ImportRefused(
            path, f"one linear layer classifier.weight is needed after the features (found: {heads}); build a network "
            "with another head in Keras"
        )  # fmt: skip
    channels = int(tensors["features.conv0.weight"].shape[1])
    backbone = getattr(keras.applications, _KINDS[blocks])(
        include_top=False, weights=None, pooling="avg", input_shape=(size, size, channels), name=_KINDS[blocks].lower()
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = EPSILON
    logits = keras.layers.Dense(labels[0][0], dtype="float32", name="logits")(backbone.output)
    network = keras.Model(backbone.input, logits, name=backbone.name)
    remaining = dict(tensors)
    for layer in network.layers:
        if layer.weights:
            _set_weights(path, layer, remaining)
    if remaining:
        raise ImportRefused(
            path, f"{len(remaining)} weights have no place in a {backbone.name}: {', '.join(list(remaining)[:4])}"
        )
    return network


def _blocks(tensors: Tensors) -> tuple[int, ...]:
    matches = [re.match(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight", name) for name in tensors]
    layers = [(int(match[1]), int(match[2])) for match in matches if match]
    return tuple(max(n for b, n in layers if b == block) for block in sorted({b for b, _ in layers}))


def _set_weights(path: Path, layer: KerasModel, remaining: dict[str, NDArray[np.float32]]) -> None:
    """Set the weights of one layer, and remove them from the remaining ones."""
    name = torch_name(layer.name)
    parts = ["weight"]
    if "norm" in name:
        parts = ["weight", "bias", "running_mean", "running_var"]
    elif name == "classifier":
        parts = ["weight", "bias"]
    missing = [f"{name}.{part}" for part in parts if f"{name}.{part}" not in remaining]
    if missing:
        raise ImportRefused(path, f"weights are missing: {', '.join(missing)}")
    values = [remaining.pop(f"{name}.{part}") for part in parts]
    if values[0].ndim == 4:
        values[0] = values[0].transpose(2, 3, 1, 0)  # [out, in, rows, columns] -> [rows, columns, in, out]
    elif values[0].ndim == 2:
        values[0] = values[0].T
    shapes, expected = [value.shape for value in values], [tuple(weight.shape) for weight in layer.weights]
    if shapes != expected:
        raise ImportRefused(path, f"{name} has weights of shapes {shapes}; {expected} are needed")
    layer.set_weights(values)


def torch_name(keras_name: str) -> str:
    """Return the name in PyTorch's DenseNet of a layer of Keras' DenseNet.

    ``conv3_block7_1_bn`` is ``features.denseblock2.denselayer7.norm2``: Keras numbers dense blocks from conv2, and
    normalisations from 0, PyTorch both from 1.
    """
    fixed = {
        "conv1_conv": "features.conv0", "conv1/conv": "features.conv0", "conv1_bn": "features.norm0",
        "conv1/bn": "features.norm0", "bn": "features.norm5", "logits": "classifier",
    }  # fmt: skip
    if keras_name in fixed:
        return fixed[keras_name]
    if match := re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(bn|conv)", keras_name):
        block, number, step = int(match[1]) - 1, match[2], int(match[3])
        part = f"norm{step + 1}" if match[4] == "bn" else f"conv{step}"
        return f"features.denseblock{block}.denselayer{number}.{part}"
    if match := re.fullmatch(r"pool(\d)_(bn|conv)", keras_name):
        return f"features.transition{int(match[1]) - 1}.{'norm' if match[2] == 'bn' else 'conv'}"
    raise ValueError(f"{keras_name} is no layer of DenseNet with weights")
