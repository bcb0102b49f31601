"""Cutting Keras networks: off their last sigmoid, and at a feature map. Layers and weights are shared, not copied."""

from collections.abc import Iterator

from model.network import KerasModel, Tensor

_PROBABILITIES = ("sigmoid", "softmax")


def find_feature_layer(network: KerasModel, layer_name: str | None = None) -> KerasModel:
    """Return the named layer, or the last one with a feature map.

    Raises
    ------
    ValueError
        There is no such layer, or it has no feature map [n, h, w, channels]; the message lists those that would do.
    """
    suited = [layer for layer in network.layers if len(getattr(layer.output, "shape", ())) == 4]
    if not suited:
        raise ValueError(f"model {network.name} has no layer with a feature map [n, h, w, channels]")
    if layer_name is None:
        return suited[-1]
    for layer in suited:
        if layer.name == layer_name:
            return layer
    names = ", ".join(layer.name for layer in suited[-8:])
    raise ValueError(
        f"layer {layer_name!r} has no feature map in model {network.name}; the last that would do: {names}"
    )


def final_activation(network: KerasModel) -> str:
    """Return the name of the activation that a network's answer ends in; ``linear`` where there is none."""
    layer = network.outputs[0]._keras_history.operation
    if type(layer).__name__ == "Softmax":
        return "softmax"
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
    if type(layer).__name__ in ("Activation", "Softmax"):
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


def _feature_map(network: KerasModel, layer_name: str) -> Tensor:
    layer = find_feature_layer(network, layer_name)
    for tensor in _ancestors(network.outputs[0]):
        if tensor._keras_history.operation is layer:
            return tensor
    raise ValueError(f"the answer of model {network.name} does not depend on layer {layer_name!r}")


def _ancestors(tensor: Tensor, stop: Tensor = None) -> Iterator[Tensor]:
    """Walk from a tensor towards the image, itself first, nothing before ``stop``."""
    waiting, seen = [tensor], {_key(stop)} if stop is not None else set()
    while waiting:
        current = waiting.pop()
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
