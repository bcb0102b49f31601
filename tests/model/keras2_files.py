"""Networks as Keras 2 saves them, made by Keras 2 itself: ``python -m tests.model.keras2_files FOLDER``.

Each file comes with an ``.npz`` of images and of what Keras 2 answered to them. In a process of its own, for a process
has one Keras.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

layers = keras.layers


def save(network: Any, path: Path, scale: float = 1.0) -> None:  # noqa: ANN401 - Keras carries no types
    """Give every vector of a normalisation numbers of its own, then write the network and its answers."""
    random = np.random.default_rng(1)
    for weight in network.weights:
        if "moving_variance" in weight.name or "gamma" in weight.name:
            weight.assign(random.uniform(0.6, 1.4, weight.shape))
        elif "moving_mean" in weight.name or "beta" in weight.name:
            weight.assign(random.normal(0, 0.3, weight.shape))
    network.compile("adam", loss="binary_crossentropy", metrics=["accuracy"])
    network.save(path)
    images = (scale * random.random((4, *network.input_shape[1:]))).astype(np.float32)
    images[1:] *= np.float32([0.2, 0.5, 0.8])[:, None, None, None]
    np.savez(path.with_suffix(".npz"), images=images, answers=network.predict(images, verbose=0))


def backbone(frozen: int = 0) -> Any:  # noqa: ANN401
    """Blocks named as those of Keras 2's DenseNets, the first layers frozen."""
    image = found = layers.Input((32, 32, 3))
    for number in range(2):
        name = f"conv{number}_block1"
        found = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name=f"{name}/conv")(found)
        found = layers.BatchNormalization(name=f"{name}/bn", epsilon=1.001e-5)(found)
        found = layers.Activation("relu", name=f"{name}/relu")(found)
    network = keras.Model(image, found, name="backbone")
    for layer in network.layers[:frozen]:
        layer.trainable = False
    return network


def on_backbone(frozen: int) -> Any:  # noqa: ANN401
    """Transfer learning as a Sequential."""
    return keras.Sequential([backbone(frozen), layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")])


def tutorial() -> Any:  # noqa: ANN401
    """Transfer learning as a graph, behind layers that augment and scale."""
    image = layers.Input((32, 32, 3))
    found = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(image))
    found = backbone(frozen=9)(layers.Rescaling(1 / 127.5, offset=-1)(found), training=False)
    found = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(found))
    return keras.Model(image, layers.Dense(1, activation="sigmoid")(found))


def odd_layers() -> Any:  # noqa: ANN401
    """Arguments that have other names now, or none, and an input that is no layer."""
    parts = [
        layers.Conv2D(4, 3, input_shape=(32, 32, 1), kernel_regularizer="l2"),
        layers.LeakyReLU(alpha=0.2),
        layers.DepthwiseConv2D(3, activation="swish"),
        layers.SeparableConv2D(6, 3),
        layers.BatchNormalization(),
        layers.PReLU(shared_axes=[1, 2]),
        layers.SpatialDropout2D(0.1),
        layers.Flatten(),
        layers.Dense(3),
        layers.Softmax(),
    ]
    return keras.Sequential(parts)


def mixed() -> Any:  # noqa: ANN401
    """Trained in mixed precision: its layers say so, each."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    image = layers.Input((32, 32, 3))
    found = layers.BatchNormalization()(layers.Conv2D(8, 3)(image))
    answer = layers.Dense(2, activation="softmax", dtype="float32")(layers.GlobalAveragePooling2D()(found))
    keras.mixed_precision.set_global_policy("float32")
    return keras.Model(image, answer)


def densenet121() -> Any:  # noqa: ANN401
    """DenseNet121 of keras.applications under a head of 14 labels."""
    base = keras.applications.DenseNet121(include_top=False, weights=None, pooling="avg", input_shape=(32, 32, 3))
    return keras.Model(base.input, layers.Dense(14, activation="sigmoid")(base.output))


def grouped() -> Any:  # noqa: ANN401
    """A grouped depthwise convolution, which Keras 3 cannot do."""
    image = layers.Input((32, 32, 4))
    network = keras.Model(image, layers.Dense(1)(layers.Flatten()(layers.DepthwiseConv2D(3, name="odd")(image))))
    network.get_layer("odd").groups = 2
    return network


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    keras.utils.set_random_seed(1)
    for frozen in (0, 3, 9):
        save(on_backbone(frozen), folder / f"frozen{frozen}.h5")
    save(on_backbone(3), folder / "zipped.keras")
    save(tutorial(), folder / "tutorial.h5", scale=255.0)
    save(odd_layers(), folder / "odd.h5")
    save(mixed(), folder / "mixed.h5")
    save(densenet121(), folder / "densenet121.h5")
    save(grouped(), folder / "grouped.h5")
