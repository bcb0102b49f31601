"""Small networks as others make them, on whichever backend Keras runs."""

from typing import Any, TypeAlias

import numpy as np

Network: TypeAlias = Any
"""A ``keras.Model``; Keras carries no types."""


def features(channels: int = 3, size: int = 32) -> tuple[Any, Any]:
    """An image and a feature map of it, [8, 8, 6]."""
    import keras

    image = keras.Input((size, size, channels), name="image")
    return image, keras.layers.Conv2D(6, 5, strides=4, padding="same", activation="relu", name="conv_layer")(image)


def classifier(labels: int = 3, activation: str | None = "sigmoid", channels: int = 3, size: int = 32) -> Network:
    """Convolution, global average pool, one dense layer."""
    import keras

    keras.utils.set_random_seed(7)
    image, found = features(channels, size)
    pooled = keras.layers.GlobalAveragePooling2D()(found)
    return spread(keras.Model(image, keras.layers.Dense(labels, activation=activation, name="answer")(pooled)))


def nested(sequential: bool = True) -> Network:
    """A backbone within a network, behind layers that augment and scale, as the tutorials of Keras have it."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(8)
    image, found = features()
    normalised = layers.BatchNormalization(name="bn")(found)
    backbone = keras.Model(image, layers.Activation("relu", name="last_relu")(normalised), name="backbone")
    parts = [
        layers.RandomFlip("horizontal"),
        layers.Rescaling(1 / 127.5, offset=-1),
        backbone,
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.2),
        layers.Dense(3, activation="softmax", name="answer"),
    ]
    if sequential:
        return spread(keras.Sequential([keras.Input((32, 32, 3)), *parts], name="tutorial"))
    outer = tensor = keras.Input((32, 32, 3), name="image")  # the same name as within
    for part in parts:
        tensor = part(tensor, training=False) if part is backbone else part(tensor)
    return spread(keras.Model(outer, tensor, name="tutorial"))


def flattened() -> Network:
    """As VGG16 ends: flatten, a hidden layer with a batch normalisation, a softmax over two."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(9)
    parts = [
        layers.Conv2D(4, 3, strides=2, activation="relu", name="conv"),
        layers.MaxPooling2D(name="block5_pool"),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        layers.BatchNormalization(),
        layers.Dense(2, activation="softmax"),
    ]
    return spread(keras.Sequential([keras.Input((32, 32, 1)), *parts]))


def convolved() -> Network:
    """As MobileNet ends: the pool keeps its axes, and a convolution of one pixel is the dense layer."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(10)
    image, found = features()
    tensor = layers.GlobalAveragePooling2D(keepdims=True)(found)
    tensor = layers.Conv2D(4, 1)(layers.Dropout(0.1)(tensor))
    return spread(keras.Model(image, layers.Softmax()(layers.Reshape((4,))(tensor))))


def attentive() -> Network:
    """Two poolings side by side: a head without a closed form."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(11)
    image, found = features()
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(found), layers.GlobalMaxPooling2D()(found)])
    return spread(keras.Model(image, layers.Dense(2, activation="sigmoid")(both)))


def spread(network: Network) -> Network:
    """Give every weight a value of its own, the statistics of normalisations too, so that answers differ."""
    random = np.random.default_rng(3)
    for weight in network.weights:
        values = random.normal(0, 0.4, weight.shape) + (
            0.8 if "variance" in weight.name or "gamma" in weight.name else 0
        )
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.name else values)
    return network


def images(network: Network, number: int = 20, scale: float = 1.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random tensors that fit a network."""
    shape = (number, *network.input_shape[1:])
    return (np.random.default_rng(5).random(shape) * scale).astype(np.float32)
