"""The network and its loss, in Keras 3 alone, so that any of its backends can train it."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

KerasModel: TypeAlias = Any
"""A ``keras.Model`` or one of its layers; Keras carries no types."""

Tensor: TypeAlias = Any
"""A tensor of whichever backend Keras runs on, or an array."""

EXPLANATION_LAYER = "relu"
"""DenseNet's last feature map, after its last batch normalisation: what its global average pool reads."""


def build_network(labels: int, size: int | None, channels: int = 3, dropout: float = 0.2) -> KerasModel:
    """Build DenseNet121 (Huang et al. 2017) from scratch with a logit a label.

    Parameters
    ----------
    labels
        Number of logits.
    size
        Rows and columns of the input, or None for any.
    channels
        Of the input.
    dropout
        Share of the pooled features left out in training.

    Returns
    -------
    keras.Model
        float32 [n, size, size, channels] -> float32 logits [n, labels].
    """
    import keras

    backbone = keras.applications.DenseNet121(
        include_top=False, weights=None, pooling="avg", input_shape=(size, size, channels), name="densenet121"
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Keras' 0.99 lags hundreds of steps behind weights that start at random: reading mode then answers nonsense
            layer.momentum = 0.9
    hidden = keras.layers.Dropout(dropout, name="dropout")(backbone.output)
    logits = keras.layers.Dense(labels, dtype="float32", name="logits")(hidden)
    return keras.Model(backbone.input, logits, name="densenet121")


def masked_loss(packed: Tensor, logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits, weighted by cell; an unknown label weighs nothing.

    Parameters
    ----------
    packed
        float32 [n, 2 * labels]: targets, then weights, as `pack_targets` makes them.
    logits
        float32 [n, labels].

    Returns
    -------
    float32 [n]: the weighted sum over the labels of each image.
    """
    from keras import ops

    labels = logits.shape[-1]
    packed = ops.cast(packed, "float32")
    targets, weights = packed[:, :labels], packed[:, labels:]
    logits = ops.cast(logits, "float32")
    entropy = ops.softplus(logits) - logits * targets
    return ops.sum(entropy * weights, axis=-1)


def pack_targets(targets: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Join targets (nan: unknown) and weights to float32 [n, 2 * labels] without any nan.

    A nan times a weight of zero would still be nan, and poison the gradient.
    """
    known = np.isfinite(targets)
    parts = [np.where(known, targets, 0.0), np.where(known, weights, 0.0)]
    return np.concatenate(parts, axis=1).astype(np.float32)
