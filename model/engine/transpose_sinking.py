"""Removal of the transpositions that Keras' OpenVINO export puts around every layer.

Keras keeps images as [n, h, w, channels], OpenVINO's convolutions need [n, channels, h, w], so the export writes a
transposition before and after each convolution, and others around each normalisation. OpenVINO's own passes keep most
of them: of 75 ms per image in bf16 they took 44, and one between a quantizer and its convolution keeps the convolution
in f32. Here each transposition is moved down past operations that do not depend on the order of axes, until it meets
its inverse. Of DenseNet121's 610 transpositions 122 remain, 120 of which transpose weights, once; it takes 0.07 s.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Network = Any
"""An ``openvino.Model``."""

Order = tuple[int, ...]
"""A permutation of axes, as a Transpose takes it."""

ELEMENTWISE = frozenset(
    (
        "Abs", "Ceiling", "Clamp", "Convert", "Elu", "Erf", "Exp", "Floor", "Gelu", "HSigmoid", "HSwish", "HardSigmoid",
        "Log", "Mish", "Negative", "Relu", "Selu", "Sigmoid", "SoftPlus", "SoftSign", "Sqrt", "Swish", "Tanh",
    )
)  # fmt: skip
"""Elementwise operations on their first input."""

TWO_SIDED = frozenset(("Add", "Divide", "Maximum", "Minimum", "Multiply", "Subtract"))


def sink_transpositions(network: Network) -> int:
    """Move transpositions down through a network and cancel them, in place; return how many were removed.

    The outputs stay the same. Transpositions stay before operations that are not known here.
    """
    before = _count(network)
    state = _Sinking()
    for node in network.get_ordered_ops():
        state.visit(node)
    network.validate_nodes_and_infer_types()
    return before - _count(network)


def fold_weights(network: Network) -> None:
    """Replace converted or transposed constants by constants, in place: NNCF quantizes only constants as weights."""
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
    """For each output that is a transposition of another one: that other output, and the order of axes."""

    def __init__(self) -> None:
        self._pending: dict[tuple[str, int], tuple[Any, Order]] = {}
        self._transposed: dict[tuple[str, int, Order], Any] = {}

    def visit(self, node: Any) -> None:  # noqa: ANN401 - an openvino.Node
        kind = node.get_type_name()
        if kind == "Transpose" and self._defer(node):
            return
        sources = [each.get_source_output() for each in node.inputs()]
        if kind in ELEMENTWISE and self._order(sources[0]):
            self._sink_below(node, [0], self._order(sources[0]))
        elif kind in _SINKS and _SINKS[kind](self, node, sources):
            return
        else:
            for entry in node.inputs():
                entry.replace_source_output(self._materialized(entry.get_source_output()))

    def _defer(self, node: Any) -> bool:  # noqa: ANN401
        order = _constant(node.input_value(1))
        if order is None or not order.size:
            return False
        base, first = self._pending.get(_key(node.input_value(0)), (node.input_value(0), tuple(range(order.size))))
        self._pending[_key(node.output(0))] = (base, tuple(first[int(axis)] for axis in order))
        return True

    def _order(self, source: Any) -> Order:  # noqa: ANN401
        """Return the pending order of an output's axes relative to its base; empty where there is none."""
        order = self._pending.get(_key(source), (None, ()))[1]
        return () if order == tuple(range(len(order))) else order

    def _base(self, source: Any) -> Any:  # noqa: ANN401
        return self._pending[_key(source)][0] if _key(source) in self._pending else source

    def _materialized(self, source: Any) -> Any:  # noqa: ANN401
        """Return an output with its pending transposition carried out."""
        order, base = self._order(source), self._base(source)
        if not order:
            return base
        key = (*_key(base), order)
        if key not in self._transposed:
            from openvino import opset13

            axes = opset13.constant(np.array(order, np.int64))
            self._transposed[key] = opset13.transpose(base, axes).output(0)
        return self._transposed[key]

    def _sink_below(self, node: Any, inputs: list[int], order: Order) -> None:  # noqa: ANN401
        """Connect a node to the bases of its inputs; the transposition is then pending at its output."""
        for index in inputs:
            node.input(index).replace_source_output(self._base(node.input_value(index)))
        self._pending[_key(node.output(0))] = (node.output(0), order)

    def normalisation(self, node: Any, sources: list[Any]) -> bool:  # noqa: ANN401
        """Sink below a BatchNormInference, whose channels are axis 1 before and after."""
        order = self._order(sources[0])
        if not order or order[1] != 1:
            return False
        self._sink_below(node, [0], order)
        return True

    def concatenation(self, node: Any, sources: list[Any]) -> bool:  # noqa: ANN401
        orders = {self._order(source) for source in sources}
        order = orders.pop()
        if orders or not order:
            return False
        from openvino import opset13

        axis = order[int(node.get_attributes()["axis"]) % len(order)]
        joined = opset13.concat([self._base(source) for source in sources], axis)
        self._pending[_key(node.output(0))] = (joined.output(0), order)
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
        self._sink_below(node, [0], order)
        return True

    def two_sided(self, node: Any, sources: list[Any]) -> bool:  # noqa: ANN401
        """Sink below an operation of two inputs in the same order, or of one and a constant of as many axes."""
        one, other = (self._order(source) for source in sources)
        if one and one == other:
            self._sink_below(node, [0, 1], one)
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
        self._sink_below(node, [1 - constant], order)
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
