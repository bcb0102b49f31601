"""Conversion of a classifier's outputs (sigmoids, a softmax, or plain logits) to one logit per label."""

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from model.network.graph_cutting import final_activation, logit_network
from model.network.keras_types import KerasModel

OutputActivation = Literal["sigmoid", "softmax"]
"""sigmoid: independent labels; softmax: mutually exclusive classes."""

_FINAL: dict[str, OutputActivation] = {
    "linear": "sigmoid",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "log_softmax": "softmax",
}


def output_activation(network: KerasModel, declared: str | None = None) -> OutputActivation:
    """Return whether a network's outputs are independent labels or exclusive classes.

    Parameters
    ----------
    network
        A classifier.
    declared
        ``sigmoid`` or ``softmax``, for a network of plain logits; None: plain logits are those of sigmoids.

    Raises
    ------
    ValueError
        The final activation gives no probabilities, or is not the declared one.
    """
    final = final_activation(network)
    if declared not in (None, "sigmoid", "softmax"):
        raise ValueError(f"the answer is given as {declared!r}; allowed are sigmoid, softmax")
    if final not in _FINAL:
        raise ValueError(
            f"model {network.name} ends in {final}, which gives no probability; allowed are "
            f"{', '.join(_FINAL)} (linear: plain logits)"
        )
    if declared not in (None, _FINAL[final]) and final != "linear":
        raise ValueError(f"model {network.name} ends in {final}; its answer cannot be {declared}")
    return _FINAL[final] if declared is None else cast(OutputActivation, declared)


def label_network(network: KerasModel, activation: OutputActivation, kept: Sequence[int]) -> KerasModel:
    """Return a network with one logit for each of the kept outputs; it shares the layers of the given one.

    The logit of a softmax class is that of its probability, so that the sigmoid of the logit equals the softmax: its
    score minus the logsumexp of the other classes' scores; for two classes, the difference of the scores.

    Parameters
    ----------
    network
        A flat network with one output tensor, as `inlined` returns it.
    activation
        Of the network's outputs.
    kept
        Indices of the outputs that are labels; the others are removed, but still compete in a softmax.

    Raises
    ------
    ValueError
        A softmax has only one output.
    """
    import keras

    logits = logit_network(network).outputs[0]
    number = int(logits.shape[-1])
    if activation == "sigmoid":
        if list(kept) == list(range(number)):
            return keras.Model(network.inputs, logits, name=network.name)
        return keras.Model(network.inputs, _fixed(logits, np.eye(number)[:, list(kept)]), name=network.name)
    if number < 2:
        raise ValueError(f"model {network.name} has one output, which cannot be a softmax over classes")
    others = [[other for other in range(number) if other != index] for index in kept]
    # each column: another class's score minus the label's own
    unit = np.eye(number)
    kernel = np.stack([unit[:, j] - unit[:, k] for k, row in zip(kept, others, strict=True) for j in row], axis=1)
    if number == 2:
        return keras.Model(network.inputs, _fixed(logits, -kernel), name=network.name)
    rivals = keras.layers.Reshape((len(kept), number - 1), name="rivals")(_fixed(logits, kernel, "differences"))
    odds = keras.ops.negative(keras.ops.logsumexp(rivals, axis=-1))
    return keras.Model(network.inputs, odds, name=network.name)


def _fixed(logits: KerasModel, kernel: NDArray[np.float64], name: str = "labels") -> KerasModel:
    """Apply a constant matrix to the logits, as a Dense layer that is not trainable."""
    import keras

    layer = keras.layers.Dense(kernel.shape[1], use_bias=False, trainable=False, name=name)
    result = layer(logits)
    layer.set_weights([kernel.astype(np.float32)])
    return result
