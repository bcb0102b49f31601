"""Cutting Keras networks: off their last sigmoid, and at a feature map. Layers and weights are shared, not copied."""

import difflib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from model.network.keras_types import KerasModel, Tensor

_PROBABILITIES = ("sigmoid", "softmax")


def find_feature_layer(network: KerasModel, layer_name: str | None = None) -> KerasModel:
    """Return the named layer, or the last one whose feature map the answer reads.

    Raises
    ------
    ValueError
        There is no such layer, or it has no feature map [n, h, w, channels] of more than one cell; the message lists
        those that would do.
    """
    suited = feature_layers(network)
    if not suited:
        raise ValueError(f"model {network.name} has no layer with a feature map [n, h, w, channels]")
    if layer_name is None:
        return next(iter(suited.values()))
    if layer_name in suited:
        return suited[layer_name]
    if any(layer.name == layer_name and len(layer.output.shape) == 4 for layer in network.layers):
        raise ValueError(f"the answer of model {network.name} does not depend on layer {layer_name!r}")
    names = ", ".join(list(suited)[:8][::-1])
    alike = difflib.get_close_matches(layer_name, list(suited)[8:], n=3)
    raise ValueError(
        f"layer {layer_name!r} has no feature map in model {network.name}; the last that would do: {names}"
        + (f"; of a similar name: {', '.join(alike)}" if alike else "")
    )


def feature_layers(network: KerasModel) -> dict[str, KerasModel]:
    """Return the layers with a feature map that the answer depends on, by name, the one nearest to the answer first."""
    found: dict[str, KerasModel] = {}
    for tensor in _ancestors(network.outputs[0]):
        shape = tuple(tensor.shape)
        operation = tensor._keras_history.operation
        drops = "Dropout" in type(operation).__name__  # in reading it is the layer before once more
        if len(shape) == 4 and shape[1:3] != (1, 1) and not _node(tensor).is_input and not drops:
            found.setdefault(operation.name, operation)
    return found


def first_operations(network: KerasModel) -> list[KerasModel]:
    """Return the operations that read the image itself, and those that read what one of them gives, in no order."""
    first, second = [], []
    for tensor in _ancestors(network.outputs[0]):
        node = _node(tensor)
        if node.is_input:
            continue
        before = [_node(read) for read in node.input_tensors]
        if any(earlier.is_input for earlier in before):
            first.append(tensor._keras_history.operation)
        elif any(_node(read).is_input for earlier in before for read in earlier.input_tensors):
            second.append(tensor._keras_history.operation)
    return first + second


def final_activation(network: KerasModel) -> str:
    """Return the name of the activation that a network's answer ends in; ``linear`` where there is none."""
    layer = network.outputs[0]._keras_history.operation
    if type(layer).__name__ in ("Softmax", "Sigmoid"):
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    return str(getattr(activation, "__name__", "linear"))


def logit_network(network: KerasModel) -> KerasModel:
    """Return the network without a sigmoid or softmax at its end, so that it answers logits; others as they are."""
    import keras

    if final_activation(network) not in _PROBABILITIES:
        return network
    output = network.outputs[0]
    (before,) = _node(output).input_tensors
    layer = output._keras_history.operation
    if type(layer).__name__ in ("Activation", "Softmax", "Sigmoid"):
        return keras.Model(network.inputs, before, name=network.name)
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    logits = linear(before)
    linear.set_weights(layer.get_weights())
    return keras.Model(network.inputs, logits, name=network.name)


def with_feature_map(network: KerasModel, layer_name: str) -> KerasModel:
    """Return the network with two outputs: its logits, and the feature map of a layer.

    Raises
    ------
    ValueError
        The layer has no feature map, or the answer does not depend on it.
    """
    import keras

    answering = logit_network(network)
    return keras.Model(answering.inputs, [answering.outputs[0], _feature_map(answering, layer_name)])


def after_feature_map(two_outputs: KerasModel) -> KerasModel:
    """Return what turns the feature map into logits, of what `with_feature_map` returned.

    Returns
    -------
    keras.Model
        Of the feature map alone, or of [image, feature map] where the logits see the image by another way too.
    """
    import keras

    logits, feature_map = two_outputs.outputs
    around = any(_node(tensor).is_input for tensor in _ancestors(logits, feature_map))
    return keras.Model([*two_outputs.inputs, feature_map] if around else feature_map, logits)


@dataclass(frozen=True)
class Step:
    """An operation on the way from a feature map to the answer, and the shapes before and after it, images left out."""

    operation: KerasModel
    before: tuple[int | None, ...]
    after: tuple[int | None, ...]

    @property
    def kind(self) -> str:
        """Name of the operation's class."""
        return type(self.operation).__name__


def steps_after(network: KerasModel, layer: KerasModel) -> list[Step]:
    """Return the operations between a layer's feature map and the answer, in order, where they form one chain.

    Raises
    ------
    ValueError
        They do not: an operation reads two tensors, or the answer does not depend on the layer.
    """
    tensor, steps = network.outputs[0], []
    while tensor._keras_history.operation is not layer:
        operation, read = tensor._keras_history.operation, _node(tensor).input_tensors
        if len(read) != 1:
            raise ValueError(f"{operation.name} reads {len(read)} tensors; the head must be one chain")
        steps.append(Step(operation, tuple(read[0].shape[1:]), tuple(tensor.shape[1:])))
        (tensor,) = read
    return steps[::-1]


def _feature_map(network: KerasModel, layer_name: str) -> Tensor:
    layer = find_feature_layer(network, layer_name)
    for tensor in _ancestors(network.outputs[0]):
        if tensor._keras_history.operation is layer:
            return tensor
    raise ValueError(f"the answer of model {network.name} does not depend on layer {layer_name!r}")


def _ancestors(tensor: Tensor, stop: Tensor = None) -> Iterator[Tensor]:
    """Walk from a tensor towards the image, the nearest first and itself first of all, nothing before ``stop``."""
    waiting, seen = deque([tensor]), {_key(stop)} if stop is not None else set()
    while waiting:
        current = waiting.popleft()
        if _key(current) not in seen:
            seen.add(_key(current))
            yield current
            waiting += [] if _node(current).is_input else _node(current).input_tensors


def _key(tensor: Tensor) -> tuple[int, int, int]:
    history = tensor._keras_history
    return id(history.operation), history.node_index, history.tensor_index


def _node(tensor: Tensor) -> Tensor:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]
