"""Flattening of nested Keras networks into one graph, without augmentation layers."""

from collections.abc import Callable
from typing import Any

from model.network.keras_types import KerasModel, Tensor

_AUGMENTING = ("Random", "RandAugment", "AugMix", "CutMix", "MixUp", "GaussianNoise", "AutoContrast")
_IDLE = ("Identity", "ActivityRegularization")


def inlined(network: KerasModel) -> KerasModel:
    """Return the network as one flat functional graph in float32, whose layers can be found by name.

    Layers and weights are shared with the network, except that a layer whose name occurs twice is copied under a new
    name. Layers that augment images in training, and identity layers, are removed.

    Raises
    ------
    ValueError
        The network has no graph: it is a subclass of keras.Model, or was never built.
    """
    import keras

    if not getattr(network, "inputs", None) or not (_is_graph(network) or isinstance(network, keras.Sequential)):
        raise ValueError(
            f"model {network.name} has no graph of layers (it is a subclass of keras.Model, or was never built); "
            "build it with keras.Sequential or keras.Model(inputs, outputs)"
        )
    for layer in network._flatten_layers():
        if layer.variable_dtype == "float32" and layer.compute_dtype != "float32":
            layer.dtype_policy = "float32"  # trained in mixed precision, whose weights are float32
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype="float32", name=_input_name(tensor)) for tensor in network.inputs
    ]
    outputs = _Inliner()(network)(*inputs)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=network.name)


def is_nested(network: KerasModel) -> bool:
    """Return whether a network has models among its layers, or layers that `inlined` removes."""
    return any(_is_model(layer) or _is_left_out(layer) for layer in network.layers)


class _Inliner:
    """Calls operations on symbolic tensors; gives each operation a name of its own."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[Any, Any]] = {}

    def __call__(self, operation: Any) -> Callable[..., Tensor]:  # noqa: ANN401 - Keras carries no types
        import keras

        if isinstance(operation, keras.Sequential):
            return lambda tensor, **_: self._chain(operation.layers, tensor)
        if _is_graph(operation):
            # arguments such as `training`, with which an inner model was called, do not apply in inference
            return lambda *tensors, **_: operation._run_through_graph(tensors, operation_fn=self)
        if _is_left_out(operation):
            return lambda tensor, *_, **__: tensor
        return lambda *arguments, **keywords: self._call(operation, arguments, keywords)

    def _chain(self, layers: list[KerasModel], tensor: Tensor) -> Tensor:
        for layer in layers:
            tensor = self(layer)(tensor)
        return tensor

    def _call(self, operation: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:  # noqa: ANN401
        known = self._named.setdefault(operation.name, (operation, operation))
        if known[0] is operation:
            return known[1](*arguments, **keywords)
        for number in range(1, 1000):
            name = f"{operation.name}_inner_{number}"
            original, copy = self._named.get(name, (None, None))
            if original is operation:
                return copy(*arguments, **keywords)
            if original is None:
                break
        copy = type(operation).from_config({**operation.get_config(), "name": name})
        self._named[name] = (operation, copy)
        result = copy(*arguments, **keywords)
        if getattr(operation, "weights", None):
            copy.set_weights(operation.get_weights())
        return result


def _is_graph(operation: object) -> bool:
    return hasattr(operation, "_run_through_graph")


def _is_model(operation: object) -> bool:
    import keras

    return _is_graph(operation) or isinstance(operation, keras.Sequential)


def _is_left_out(operation: object) -> bool:
    kind = type(operation).__name__
    module = type(operation).__module__
    if not module.startswith("keras."):
        return False
    linear = kind == "Activation" and getattr(operation.activation, "__name__", "") == "linear"  # type: ignore[attr-defined]
    return linear or kind in _IDLE or kind.startswith(_AUGMENTING)


def _input_name(tensor: Tensor) -> str:
    return str(tensor._keras_history.operation.name)
