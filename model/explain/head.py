"""The head of a network (all layers after its last feature map) in NumPy: logits, and their Jacobian."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pooling = Literal["average", "flatten"]

ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "elu", "silu", "softplus")


LOG_ODDS = "log_odds:"
"""Prefix of the activation of a head that was a softmax, followed by a number g: each group of g values are the scores
of the other classes minus the label's own, and -logsumexp of a group is the logit of the label's probability."""


class HeadUnsupported(ValueError):
    """The head has no closed form here: it has a layer that this module cannot differentiate; the message names it."""


@dataclass(frozen=True, eq=False)
class HeadLayer:
    """An affine map, then an activation; a batch normalisation is an affine map with a diagonal kernel.

    Attributes
    ----------
    kernel
        float32 [inputs, outputs], or [inputs] for a diagonal kernel.
    bias
        float32 [outputs].
    activation
        One of `ACTIVATIONS`, or `LOG_ODDS` with the size of a group.

    Raises
    ------
    HeadUnsupported
        The activation is another one, or the shapes do not fit.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str = "linear"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS and not self._group:
            raise HeadUnsupported(f"head activation is {self.activation!r}; allowed are {', '.join(ACTIVATIONS)}")
        if self.kernel.ndim not in (1, 2) or self.bias.shape != self.kernel.shape[-1:]:
            raise HeadUnsupported(f"head kernel of shape {self.kernel.shape} does not fit bias {self.bias.shape}")
        if self._group and len(self.bias) % self._group:
            raise HeadUnsupported(f"head activation {self.activation!r} does not divide {len(self.bias)} values")

    @property
    def outputs(self) -> int:
        """Number of outputs, after the activation."""
        return len(self.bias) // (self._group or 1)

    @property
    def _group(self) -> int:
        digits = self.activation.removeprefix(LOG_ODDS)
        return int(digits) if digits != self.activation and digits.isdecimal() else 0


@dataclass(frozen=True, eq=False)
class Head:
    """The layers from a feature map [h, w, channels] to the logits: average pooling or flattening, then `layers`."""

    pooling: Pooling
    layers: tuple[HeadLayer, ...]

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.layers[-1].outputs

    def pooled(self, activations: NDArray[np.float32]) -> Array:
        """Return the input of the first layer, float64 [features], of one feature map float32 [h, w, channels]."""
        if self.pooling == "average":
            return activations.mean(axis=(0, 1), dtype=np.float64)
        return activations.astype(np.float64).reshape(-1)

    def logits(self, pooled: Array) -> Array:
        """Return the logits, float64 [labels], of one pooled vector float64 [features]."""
        value = pooled
        for layer in self.layers:
            value = _activate(_affine(layer, value), layer.activation)
        return value

    def jacobian(self, pooled: Array) -> Array:
        """Return the derivative of every logit by every pooled feature, float64 [labels, features]."""
        value, derivatives = pooled, []
        for layer in self.layers:
            before = _affine(layer, value)
            derivatives.append(_derivative(before, layer.activation))
            value = _activate(before, layer.activation)
        jacobian: Array = np.eye(len(value))
        for layer, derivative in zip(reversed(self.layers), reversed(derivatives), strict=True):
            # all values of a log-odds group lead to the same output
            jacobian = np.repeat(jacobian, derivative.size // jacobian.shape[1], axis=1) * derivative.reshape(-1)
            kernel = layer.kernel.astype(np.float64)
            jacobian = jacobian * kernel if kernel.ndim == 1 else jacobian @ kernel.T
        return jacobian

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the parameters by their names in a bundle's ``head.npz``."""
        arrays: dict[str, NDArray[np.float32]] = {}
        for index, layer in enumerate(self.layers):
            arrays |= {f"{index}.kernel": layer.kernel, f"{index}.bias": layer.bias}
        return arrays

    def as_table(self) -> dict[str, Any]:
        """Return the head's entry in ``model.toml``."""
        return {"pooling": self.pooling, "activations": [layer.activation for layer in self.layers]}

    @classmethod
    def from_parts(cls, table: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> "Head":
        """Return the head of its entry in ``model.toml`` and the arrays of ``head.npz``.

        Raises
        ------
        HeadUnsupported
            A pooling or activation is unknown, or shapes do not fit.
        KeyError
            An entry or array is missing.
        """
        if table["pooling"] not in ("average", "flatten"):
            raise HeadUnsupported(f"head pooling is {table['pooling']!r}; allowed are average, flatten")
        activations: Sequence[str] = table["activations"]
        layers = tuple(
            HeadLayer(arrays[f"{index}.kernel"], arrays[f"{index}.bias"], name)
            for index, name in enumerate(activations)
        )
        return cls(cast(Pooling, table["pooling"]), layers)


def _affine(layer: HeadLayer, value: Array) -> Array:
    kernel = layer.kernel.astype(np.float64)
    product: Array = value * kernel if kernel.ndim == 1 else value @ kernel
    return product + layer.bias


def _sigmoid(value: Array) -> Array:
    result: Array = 0.5 * (1 + np.tanh(value / 2))
    return result


def _activate(value: Array, activation: str) -> Array:
    result: Array
    match activation:
        case "relu":
            result = np.maximum(value, 0)
        case "tanh":
            result = np.tanh(value)
        case "sigmoid":
            result = _sigmoid(value)
        case "elu":
            result = np.where(value > 0, value, np.expm1(np.minimum(value, 0)))
        case "silu":
            result = value * _sigmoid(value)
        case "softplus":
            result = np.logaddexp(0, value)
        case _ if activation.startswith(LOG_ODDS):
            result = -np.logaddexp.reduce(_groups(value, activation), axis=1)
        case _:
            result = value
    return result


def _derivative(value: Array, activation: str) -> Array:
    result: Array
    match activation:
        case "relu":
            result = (value > 0).astype(np.float64)
        case "tanh":
            result = 1 - np.tanh(value) ** 2
        case "sigmoid":
            result = _sigmoid(value) * (1 - _sigmoid(value))
        case "elu":
            result = np.where(value > 0, 1.0, np.exp(np.minimum(value, 0)))
        case "silu":
            result = _sigmoid(value) * (1 + value * (1 - _sigmoid(value)))
        case "softplus":
            result = _sigmoid(value)
        case _ if activation.startswith(LOG_ODDS):
            groups = _groups(value, activation)
            result = -np.exp(groups - np.logaddexp.reduce(groups, axis=1, keepdims=True))
        case _:
            result = np.ones_like(value)
    return result


def _groups(value: Array, activation: str) -> Array:
    return value.reshape(-1, int(activation.removeprefix(LOG_ODDS)))
