"""A logit for each label of whatever a classifier ends in: one or more sigmoids, a softmax, or plain logits."""

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from model.network.graph_cutting import final_activation, logit_network
from model.network.keras_types import KerasModel

Answer = Literal["sigmoid", "softmax"]
"""Whether labels are independent of one another, or exclude one another."""

_ENDINGS: dict[str, Answer] = {
    "linear": "sigmoid",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "log_softmax": "softmax",
}


def answer_of(network: KerasModel, asked: str | None = None) -> Answer:
    """Return what kind of answer a network gives; plain logits are taken for those of sigmoids unless said otherwise.

    Raises
    ------
    ValueError
        The network ends in an activation that gives no probability, or in another one than was said.
    """
    ending = final_activation(network)
    if asked not in (None, "sigmoid", "softmax"):
        raise ValueError(f"the answer is said to be {asked!r}; allowed are sigmoid, softmax")
    if ending not in _ENDINGS:
        raise ValueError(
            f"model {network.name} ends in {ending}, which gives no probability; allowed are "
            f"{', '.join(_ENDINGS)} (linear: plain logits)"
        )
    if asked not in (None, _ENDINGS[ending]) and ending != "linear":
        raise ValueError(f"model {network.name} ends in {ending}; its answer cannot be {asked}")
    return _ENDINGS[ending] if asked is None else cast(Answer, asked)


def label_network(network: KerasModel, answer: Answer, kept: Sequence[int]) -> KerasModel:
    """Return the network with one logit for each of the outputs that are kept; it shares the layers before.

    The logit of a softmax's class is that of its probability: its score less the logarithm of the sum of the other
    classes' exponentials, so that a sigmoid of it gives what the softmax gave. Of two classes that is the difference
    of their scores.

    Parameters
    ----------
    network
        A flat network of one output, as `inlined` makes it.
    answer
        Of the network's own outputs.
    kept
        Indices of the outputs that are labels; the others are left out, and still compete in a softmax.
    """
    import keras

    logits = logit_network(network).outputs[0]
    number = int(logits.shape[-1])
    if answer == "sigmoid":
        if list(kept) == list(range(number)):
            return keras.Model(network.inputs, logits, name=network.name)
        return keras.Model(network.inputs, _fixed(logits, np.eye(number)[:, list(kept)]), name=network.name)
    if number < 2:
        raise ValueError(f"model {network.name} answers one number, which cannot be a softmax over classes")
    others = [[other for other in range(number) if other != index] for index in kept]
    # column by column: another class's score less the label's own
    rival = np.eye(number)
    kernel = np.stack([rival[:, j] - rival[:, k] for k, row in zip(kept, others, strict=True) for j in row], axis=1)
    if number == 2:
        return keras.Model(network.inputs, _fixed(logits, -kernel), name=network.name)
    rivals = keras.layers.Reshape((len(kept), number - 1), name="rivals")(_fixed(logits, kernel, "differences"))
    odds = keras.ops.negative(keras.ops.logsumexp(rivals, axis=-1))
    return keras.Model(network.inputs, odds, name=network.name)


def _fixed(logits: KerasModel, kernel: NDArray[np.float64], name: str = "labels") -> KerasModel:
    """Apply a matrix that is no weight to be learnt."""
    import keras

    layer = keras.layers.Dense(kernel.shape[1], use_bias=False, trainable=False, name=name)
    result = layer(logits)
    layer.set_weights([kernel.astype(np.float32)])
    return result
