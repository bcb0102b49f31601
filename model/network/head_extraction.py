"""Extraction of the head of a Keras network as NumPy arrays, where it has a closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.explain.head import LOG_ODDS, Head, HeadLayer, HeadUnsupported, Pooling
from model.network.graph_cutting import Step, find_feature_layer, logit_network, steps_after
from model.network.keras_types import KerasModel

_DROPPING = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianNoise", "GaussianDropout")


def extract_head(network: KerasModel, layer_name: str) -> Head:
    """Return the layers from a feature map to the logits as a head in NumPy.

    Raises
    ------
    HeadUnsupported
        The layers after the feature map are not pooling or flattening, then Dense, BatchNormalization, Dropout and
        Activation in one chain.
    """
    network = logit_network(network)
    try:
        steps = steps_after(network, find_feature_layer(network, layer_name))
    except ValueError as error:
        raise HeadUnsupported(str(error)) from error
    pooling: Pooling | None = None
    layers: list[HeadLayer] = []
    while steps:
        step = steps.pop(0)
        if step.kind in _DROPPING:
            continue
        if pooling is None:
            pooling = _pooling(step)
        elif [step.kind, *(later.kind for later in steps)] == ["Reshape", "Logsumexp", "Negative"]:
            layers[-1] = replace(layers[-1], activation=f"{LOG_ODDS}{step.after[-1]}")
            steps.clear()
        elif not (step.kind in ("Flatten", "Reshape") and _cells(step.before) == 1 == _cells(step.after)):
            layers.append(_head_layer(step))
    if pooling is None or not layers:
        raise HeadUnsupported(f"nothing that could be a head follows layer {layer_name}")
    return Head(pooling, tuple(layers))


def _pooling(step: Step) -> Pooling:
    """Return whether a step pools or flattens the feature map; HeadUnsupported where it does neither."""
    operation = step.operation
    first = getattr(operation, "data_format", "channels_last") == "channels_first"
    whole = step.kind == "AveragePooling2D" and step.before[:2] == tuple(operation.pool_size)
    if first or not (step.kind in ("GlobalAveragePooling2D", "Flatten") or whole):
        raise HeadUnsupported(
            f"{step.kind} {operation.name} reads the feature map; GlobalAveragePooling2D or Flatten may, channels last"
        )
    return "flatten" if step.kind == "Flatten" else "average"


def _cells(shape: tuple[int | None, ...]) -> int | None:
    """Return the number of feature vectors of a shape; None where it is not fixed."""
    return math.prod(shape[:-1]) if None not in shape[:-1] else None  # type: ignore[arg-type]


def _head_layer(step: Step) -> HeadLayer:
    layer, kind = step.operation, step.kind
    pointwise = kind == "Conv2D" and tuple(layer.kernel_size) == (1, 1) and layer.groups == 1
    if kind == "Dense" or (pointwise and _cells(step.before) == 1):
        first, *bias = (np.asarray(value, np.float32) for value in layer.get_weights())
        kernel: NDArray[np.float32] = first.reshape(-1, first.shape[-1])
        offset = bias[0] if bias else np.zeros(kernel.shape[1], np.float32)
        return HeadLayer(kernel, offset, _activation(layer))
    if kind == "BatchNormalization":
        values = {weight.name: np.asarray(weight, np.float64) for weight in layer.weights}
        scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + layer.epsilon)
        offset = values.get("beta", 0.0) - values["moving_mean"] * scale
        return HeadLayer(scale.astype(np.float32), np.asarray(offset, np.float32))
    capped = kind == "ReLU" and (layer.max_value is not None or layer.negative_slope or layer.threshold)
    if kind in ("Activation", "ReLU") and not capped:
        features = int(step.after[-1] or 0)
        name = "relu" if kind == "ReLU" else _activation(layer)
        return HeadLayer(np.ones(features, np.float32), np.zeros(features, np.float32), name)
    raise HeadUnsupported(
        f"head layer {layer.name} is {kind}; allowed are Dense, BatchNormalization, Dropout, Activation"
    )


def _activation(layer: KerasModel) -> str:
    return str(getattr(layer.activation, "__name__", layer.activation))
