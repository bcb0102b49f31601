"""Cutting of Keras graphs: removal of a final activation, and at a feature map. Layers and weights are shared."""

import difflib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from model.network.keras_types import KerasModel, Tensor

_PROBABILITIES = ("sigmoid", "softmax")


def find_feature_layer(network: KerasModel, layer_name: str | None = None) -> KerasModel:
    """Return the named layer, or the last one with a feature map that the output depends on.

    Parameters
    ----------
    network
        A flat network (`model.network.graph_flattening.inlined`).
    layer_name
        None: the last layer with a feature map.

    Raises
    ------
    ValueError
        There is no such layer, or it has no feature map [n, h, w, channels] of more than one cell; the message lists
        layers that have.
    """
    layers = feature_layers(network)
    if not layers:
        raise ValueError(f"model {network.name} has no layer with a feature map [n, h, w, channels]")
    if layer_name is None:
        return next(iter(layers.values()))
    if layer_name in layers:
        return layers[layer_name]
    if any(layer.name == layer_name and len(layer.output.shape) == 4 for layer in network.layers):
        raise ValueError(f"the output of model {network.name} does not depend on layer {layer_name!r}")
    names = ", ".join(list(layers)[:8][::-1])
    similar = difflib.get_close_matches(layer_name, list(layers)[8:], n=3)
    raise ValueError(
        f"layer {layer_name!r} has no feature map in model {network.name}; the last layers that have: {names}"
        + (f"; with a similar name: {', '.join(similar)}" if similar else "")
    )


def feature_layers(network: KerasModel) -> dict[str, KerasModel]:
    """Return the layers, by name, with a feature map that the output depends on; the one nearest the output first."""
    layers: dict[str, KerasModel] = {}
    for tensor in _ancestors(network.outputs[0]):
        shape = tuple(tensor.shape)
        operation = tensor._keras_history.operation
        is_dropout = "Dropout" in type(operation).__name__  # in inference its output equals its input
        if len(shape) == 4 and shape[1:3] != (1, 1) and not _node(tensor).is_input and not is_dropout:
            layers.setdefault(operation.name, operation)
    return layers


def first_operations(network: KerasModel) -> list[KerasModel]:
    """Return the operations whose input is the image, then those whose input is the output of one of them."""
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
    """Return the name of the activation at a network's output; ``linear`` where there is none."""
    layer = network.outputs[0]._keras_history.operation
    if type(layer).__name__ in ("Softmax", "Sigmoid"):
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    return str(getattr(activation, "__name__", "linear"))


def logit_network(network: KerasModel) -> KerasModel:
    """Return the network without its final sigmoid or softmax, so that its outputs are logits; others unchanged."""
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
        The layer has no feature map, or the output does not depend on it.
    """
    import keras

    to_logits = logit_network(network)
    return keras.Model(to_logits.inputs, [to_logits.outputs[0], _feature_map(to_logits, layer_name)])


def after_feature_map(two_outputs: KerasModel) -> KerasModel:
    """Return the part after the feature map of a network that `with_feature_map` returned.

    Returns
    -------
    keras.Model
        From the feature map to the logits; or from [image, feature map], where the logits depend on the image by a path
        around the feature map too.
    """
    import keras

    logits, feature_map = two_outputs.outputs
    bypassed = any(_node(tensor).is_input for tensor in _ancestors(logits, feature_map))
    return keras.Model([*two_outputs.inputs, feature_map] if bypassed else feature_map, logits)


@dataclass(frozen=True)
class Step:
    """An operation between a feature map and the output, with its input and output shape, without the batch axis."""

    operation: KerasModel
    before: tuple[int | None, ...]
    after: tuple[int | None, ...]

    @property
    def kind(self) -> str:
        """Name of the operation's class."""
        return type(self.operation).__name__


def steps_after(network: KerasModel, layer: KerasModel) -> list[Step]:
    """Return the operations between a layer's feature map and the output, in order, where they form one chain.

    Raises
    ------
    ValueError
        An operation has several inputs, or the output does not depend on the layer.
    """
    tensor, steps = network.outputs[0], []
    while tensor._keras_history.operation is not layer:
        operation, inputs = tensor._keras_history.operation, _node(tensor).input_tensors
        if len(inputs) != 1:
            raise ValueError(f"{operation.name} has {len(inputs)} inputs; the head must be one chain")
        steps.append(Step(operation, tuple(inputs[0].shape[1:]), tuple(tensor.shape[1:])))
        (tensor,) = inputs
    return steps[::-1]


def _feature_map(network: KerasModel, layer_name: str) -> Tensor:
    layer = find_feature_layer(network, layer_name)
    for tensor in _ancestors(network.outputs[0]):
        if tensor._keras_history.operation is layer:
            return tensor
    raise ValueError(f"the output of model {network.name} does not depend on layer {layer_name!r}")


def _ancestors(tensor: Tensor, stop: Tensor = None) -> Iterator[Tensor]:
    """Yield a tensor and those it depends on, breadth first towards the image; not beyond ``stop``."""
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
