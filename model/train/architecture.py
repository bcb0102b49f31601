"""The networks that `train` builds, by name."""

from __future__ import annotations

from typing import Literal

import numpy as np

from model.network.keras_types import KerasModel

EXPLANATION_LAYER = "relu"
"""The layer of DenseNet's last feature map, after its last batch normalisation and before its global average pool."""


Architecture = Literal["densenet121", "densenet169", "densenet201", "tiny"]


ARCHITECTURES: tuple[Architecture, ...] = ("densenet121", "densenet169", "densenet201", "tiny")


def build_network(
    labels: int, size: int | None, channels: int = 3, dropout: float = 0.2, architecture: Architecture = "densenet121"
) -> KerasModel:
    """Build a network with random weights and one logit per label.

    Parameters
    ----------
    labels
        Number of logits.
    size
        Rows and columns of the input, or None for any.
    channels
        Channels of the input.
    dropout
        Dropout rate of the pooled features.
    architecture
        A DenseNet (Huang et al. 2017), or three convolutions (``tiny``) for trying data and options in seconds.

    Returns
    -------
    keras.Model
        float32 [n, size, size, channels] -> float32 logits [n, labels].
    """
    import keras

    shape = (size, size, channels)
    if architecture == "tiny":
        backbone = _tiny(shape)
    else:
        build = getattr(keras.applications, architecture.replace("densenet", "DenseNet"))
        backbone = build(include_top=False, weights=None, pooling="avg", input_shape=shape, name=architecture)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # with Keras' 0.99 the moving statistics lag hundreds of steps behind weights that start at random, and
            # inference mode then gives meaningless outputs
            layer.momentum = 0.9
    hidden = keras.layers.Dropout(dropout, name="dropout")(backbone.output)
    logits = keras.layers.Dense(labels, dtype="float32", name="logits")(hidden)
    return keras.Model(backbone.input, logits, name=architecture)


def one_against_normal(network: KerasModel) -> KerasModel:
    """Return the network of one logit that is equivalent to a network with a softmax over two classes.

    The logit of the second class's probability is the difference of the two scores.
    """
    import keras

    last = network.get_layer("logits")
    kernel, bias = (np.asarray(value) for value in last.get_weights())
    logit = keras.layers.Dense(1, dtype="float32", name="logits")
    output = logit(network.get_layer("dropout").output)
    logit.set_weights([kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]])
    return keras.Model(network.inputs, output, name=network.name)


def _tiny(shape: tuple[int | None, int | None, int]) -> KerasModel:
    """Return three convolutions whose layers are named as DenseNet's."""
    from keras import Input, Model, layers

    image = hidden = Input(shape)
    for number, filters in ((1, 16), (2, 24)):
        hidden = layers.Conv2D(filters, 3, 2, "same", use_bias=False, name=f"conv{number}_conv")(hidden)
        hidden = layers.BatchNormalization(name=f"conv{number}_bn")(hidden)
        hidden = layers.Activation("relu", name=f"conv{number}_relu")(hidden)
    hidden = layers.Conv2D(32, 3, 2, "same", use_bias=False, name="conv3_conv")(hidden)
    hidden = layers.BatchNormalization(name="bn")(hidden)
    hidden = layers.Activation("relu", name=EXPLANATION_LAYER)(hidden)
    return Model(image, layers.GlobalAveragePooling2D(name="avg_pool")(hidden))
