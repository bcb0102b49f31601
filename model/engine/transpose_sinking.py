"""Taking out the transpositions that Keras puts around every layer of a network compiled for OpenVINO.

Keras keeps images as [n, h, w, channels], OpenVINO's convolutions want [n, channels, h, w], and so Keras' backend
writes a transposition before and after each of them, and others around each normalisation. OpenVINO keeps most: of
75 ms an image in bf16 they took 44, and between a quantizer and its convolution they keep the convolution in f32. Here
each is moved down past what does not care for the order of axes, until it meets its inverse. Of DenseNet121's 610 there
remain 122, 120 of which turn weights, once; it takes 0.07 s.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Network = Any
"""An ``openvino.Model``."""

Order = tuple[int, ...]

ELEMENTWISE = frozenset(
    (
        "Abs", "Ceiling", "Clamp", "Convert", "Elu", "Erf", "Exp", "Floor", "Gelu", "HSigmoid", "HSwish", "HardSigmoid",
        "Log", "Mish", "Negative", "Relu", "Selu", "Sigmoid", "SoftPlus", "SoftSign", "Sqrt", "Swish", "Tanh",
    )
)  # fmt: skip
"""Operations that treat each number of their first input alike."""

TWO_SIDED = frozenset(("Add", "Divide", "Maximum", "Minimum", "Multiply", "Subtract"))


def sink_transpositions(network: Network) -> int:
    """Move transpositions down and out of a network, in place; return how many fewer there are. Answers stay the same.

    Operations it does not know keep what they had before and after them.
    """
    before = _count(network)
    state = _Sinking()
    for node in network.get_ordered_ops():
        state.visit(node)
    network.validate_nodes_and_infer_types()
    return before - _count(network)


def fold_weights(network: Network) -> None:
    """Turn and widen constants in place: only constants themselves are quantized as weights."""
    from openvino import opset13

    for node in network.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in ("Convert", "Transpose") or node.input_value(0).get_node().get_type_name() != "Constant":
            continue
        values = np.asarray(node.input_value(0).get_node().get_data())
        if kind == "Transpose":
            values = np.ascontiguousarray(values.transpose(_constant(node.input_value(1))))
        folded = opset13.constant(values.astype(node.get_output_element_type(0).to_dtype()))
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(folded.output(0))
    network.validate_nodes_and_infer_types()


class _Sinking:
    """What is known of each output: that it stands for another one, transposed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[Any, Order]] = {}
        self._made: dict[tuple[str, int, Order], Any] = {}

    def visit(self, node: Any) -> None:  # noqa: ANN401 - an openvino.Node
        kind = node.get_type_name()
        if kind == "Transpose" and self._joined(node):
            return
        sources = [each.get_source_output() for each in node.inputs()]
        if kind in ELEMENTWISE and self._order(sources[0]):
            self._take(node, [0], self._order(sources[0]))
        elif kind in _SINKS and _SINKS[kind](self, node, sources):
            return
        else:
            for entry in node.inputs():
                entry.replace_source_output(self._whole(entry.get_source_output()))

    def _joined(self, node: Any) -> bool:  # noqa: ANN401
        order = _constant(node.input_value(1))
        if order is None or not order.size:
            return False
        base, first = self._known.get(_key(node.input_value(0)), (node.input_value(0), tuple(range(order.size))))
        self._known[_key(node.output(0))] = (base, tuple(first[int(axis)] for axis in order))
        return True

    def _order(self, source: Any) -> Order:  # noqa: ANN401
        """Return the axes of what an output stands for, in its own order; empty where it is itself."""
        order = self._known.get(_key(source), (None, ()))[1]
        return () if order == tuple(range(len(order))) else order

    def _base(self, source: Any) -> Any:  # noqa: ANN401
        return self._known[_key(source)][0] if _key(source) in self._known else source

    def _whole(self, source: Any) -> Any:  # noqa: ANN401
        """Return an output as it was, with a transposition where it needs one."""
        order, base = self._order(source), self._base(source)
        if not order:
            return base
        key = (*_key(base), order)
        if key not in self._made:
            from openvino import opset13

            axes = opset13.constant(np.array(order, np.int64))
            self._made[key] = opset13.transpose(base, axes).output(0)
        return self._made[key]

    def _take(self, node: Any, inputs: list[int], order: Order) -> None:  # noqa: ANN401
        """Let a node work on what its inputs stand for; its output then stands transposed."""
        for index in inputs:
            node.input(index).replace_source_output(self._base(node.input_value(index)))
        self._known[_key(node.output(0))] = (node.output(0), order)

    def normalisation(self, node: Any, sources: list[Any]) -> bool:  # noqa: ANN401
        """Sink below a BatchNormInference, whose channels are axis 1 before and after."""
        order = self._order(sources[0])
        if not order or order[1] != 1:
            return False
        self._take(node, [0], order)
        return True

    def concatenation(self, node: Any, sources: list[Any]) -> bool:  # noqa: ANN401
        orders = {self._order(source) for source in sources}
        order = orders.pop()
        if orders or not order:
            return False
        from openvino import opset13

        axis = order[int(node.get_attributes()["axis"]) % len(order)]
        joined = opset13.concat([self._base(source) for source in sources], axis)
        self._known[_key(node.output(0))] = (joined.output(0), order)
        return True

    def padding(self, node: Any, sources: list[Any]) -> bool:  # noqa: ANN401
        order = self._order(sources[0])
        sides = [_constant(source) for source in sources[1:3]]
        if not order or any(side is None for side in sides):
            return False
        from openvino import opset13

        for index, side in enumerate(sides, 1):
            turned = np.zeros(len(order), np.int64)
            turned[list(order)] = side
            node.input(index).replace_source_output(opset13.constant(turned).output(0))
        self._take(node, [0], order)
        return True

    def two_sided(self, node: Any, sources: list[Any]) -> bool:  # noqa: ANN401
        """Sink below an operation of two inputs in the same order, or of one and a constant of as many axes."""
        one, other = (self._order(source) for source in sources)
        if one and one == other:
            self._take(node, [0, 1], one)
            return True
        order = one or other
        constant = 1 if one else 0
        values = _constant(sources[constant])
        if not order or (one and other) or values is None or values.ndim not in (0, len(order)):
            return False
        if values.ndim:
            from openvino import opset13

            back = np.argsort(order)
            node.input(constant).replace_source_output(
                opset13.constant(np.ascontiguousarray(values.transpose(back))).output(0)
            )
        self._take(node, [1 - constant], order)
        return True


_SINKS: dict[str, Callable[[_Sinking, Any, list[Any]], bool]] = {
    "BatchNormInference": _Sinking.normalisation,
    "Concat": _Sinking.concatenation,
    "Pad": _Sinking.padding,
    **dict.fromkeys(TWO_SIDED, _Sinking.two_sided),
}


def _key(output: Any) -> tuple[str, int]:  # noqa: ANN401
    return output.get_node().get_name(), output.get_index()


def _constant(output: Any) -> Any:  # noqa: ANN401
    """Return the values of a constant, also behind a conversion, in the type of the output; else None."""
    node = output.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    return np.asarray(node.get_data()).astype(output.get_element_type().to_dtype())


def _count(network: Network) -> int:
    return sum(node.get_type_name() == "Transpose" for node in network.get_ops())
