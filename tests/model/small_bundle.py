"""A bundle that reads brightness, built of OpenVINO's own operations in a moment: for what needs no DenseNet."""

from pathlib import Path

import cv2
import numpy as np

from model.bundle.bundle import GOLDEN_FILE, HEAD_FILE, NETWORK_FILE, WEIGHTS_FILE, Bundle, describe_head
from model.bundle.training_distribution import TrainingDistribution
from model.engine.opening import open_engine
from model.explain.head import Head, HeadLayer
from model.importing.ood_reference import FEWEST, fit_reference
from model.network.openvino_export import golden_tensors
from model.preprocessing.tensor import Preprocessing
from model.publish.bundle_writer import BundleDescription, write_arrays, write_description

SPEC = Preprocessing(size=32, geometry="squash", interpolation="area", channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
FEATURES = 8


def write_small_bundle(
    folder: Path,
    *,
    name: str = "small",
    slope: float = 6.0,
    loud: float = 1.0,
    cancelling: float = 0.0,
    reference: int = 0,
    keras_slope: float | None = None,
) -> Bundle:
    """Write a bundle of one label, ``Pneumonia``, that a bright image has.

    Parameters
    ----------
    slope
        How strongly brightness speaks for it.
    loud
        How many times as large as the others a channel of the first layer is that says nothing.
    cancelling
        A weight of the head that two equal features have, once with each sign.
    reference
        How many noisy images, `FEWEST` at least, its training distribution is fitted on; 0: unknown.
    keras_slope
        Write weights that Keras reads, with this slope; None: ones that it cannot read.
    """
    import openvino
    from openvino import opset13 as op

    folder.mkdir(parents=True)
    chance = np.random.default_rng(6)
    first = np.abs(chance.normal(0, 0.3, (FEATURES, 3, 3, 3))).astype(np.float32) / 9
    first[1] *= -1  # dark places
    offset = np.full((1, FEATURES, 1, 1), 0.1, np.float32)
    first[0], offset[0, 0] = 0, loud
    second = np.zeros((FEATURES, FEATURES, 3, 3), np.float32)
    for channel in range(FEATURES):
        second[channel, max(channel, 1), 1, 1] = 1
    kernel = np.zeros((FEATURES, 1), np.float32)
    kernel[1:3, 0] = (-slope, slope)
    kernel[0, 0], kernel[1, 0] = cancelling, kernel[1, 0] - cancelling  # both read the same
    head = Head("average", (HeadLayer(kernel, np.full(1, -0.2, np.float32)),))

    image = op.parameter([1, 32, 32, 3], np.float32, name="image")
    value = op.transpose(image, np.array([0, 3, 1, 2]))
    value = op.convolution(value, op.constant(first), [2, 2], [1, 1], [1, 1], [1, 1])
    value = op.relu(op.add(value, op.constant(offset)))
    value = op.relu(op.convolution(value, op.constant(second), [1, 1], [1, 1], [1, 1], [1, 1]))
    features = op.transpose(value, np.array([0, 2, 3, 1]))
    pooled = op.reduce_mean(features, np.array([1, 2]))
    logits = op.add(op.matmul(pooled, op.constant(kernel), False, False), op.constant(head.layers[0].bias))
    openvino.save_model(openvino.Model([logits, features], [image]), folder / NETWORK_FILE, compress_to_fp16=False)

    if keras_slope is not None:
        _write_keras(folder / WEIGHTS_FILE, [first, offset.reshape(-1), second], kernel * keras_slope / slope)
    else:
        (folder / WEIGHTS_FILE).write_bytes(f"no Keras network: {slope} {loud} {cancelling}".encode())
    write_arrays(folder / HEAD_FILE, head.to_arrays())
    tensors = golden_tensors(SPEC.size, SPEC.channels, SPEC.mean, SPEC.std)
    description = BundleDescription(name, "1", ("Pneumonia",), SPEC, "features")

    def described(distribution: TrainingDistribution) -> Bundle:
        return write_description(
            folder, description, describe_head(head, "features"), distribution, {"Pneumonia": 0.5}, {"Pneumonia": 1.0}
        )

    blank = {"logits": np.zeros((2, 1), np.float32), "activations": np.zeros((2, 16, 16, FEATURES), np.float32)}
    write_arrays(folder / GOLDEN_FILE, {"tensors": tensors.astype(np.float16), **blank})
    bundle = described(TrainingDistribution.unknown(FEATURES))
    engine = open_engine(bundle, "f32", check_golden=False)
    answer = engine.run(tensors)
    write_arrays(
        folder / GOLDEN_FILE,
        {"tensors": tensors.astype(np.float16), "logits": answer.logits, "activations": answer.activations},
    )
    bundle = described(TrainingDistribution.unknown(FEATURES))
    if reference:
        bundle = described(
            fit_reference(engine, SPEC, [noisy(0.3 + 0.4 * (i % 2), i) for i in range(max(reference, FEWEST))])
        )
    (folder / "README.md").write_text(f"# {name}\n", encoding="utf-8")
    return bundle


def _write_keras(path: Path, convolutions: list[np.ndarray], kernel: np.ndarray) -> None:
    import keras

    layers = keras.layers
    first, offset, second = convolutions
    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(FEATURES, 3, strides=2, activation="relu"),
            layers.Conv2D(FEATURES, 3, padding="same", activation="relu", use_bias=False, name="features"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, name="logits"),
        ]
    )
    in_keras = [first.transpose(2, 3, 1, 0), offset, second.transpose(2, 3, 1, 0), kernel, np.full(1, -0.2, np.float32)]
    network.set_weights(in_keras)
    network.save(path)


def noisy(level: float, seed: int) -> np.ndarray:
    """An image of one brightness, 32 x 32 in 0..1, with some noise."""
    chance = np.random.default_rng(seed)
    return np.clip(level + chance.normal(0, 0.1, (32, 32)), 0, 1).astype(np.float32)


def write_images(folder: Path, number: int) -> Path:
    """Write dark images of the class ``normal`` and bright ones of ``Pneumonia``, each a patient's of its own."""
    for label, level in (("normal", 0.35), ("Pneumonia", 0.65)):
        (folder / label).mkdir(parents=True)
        for index in range(number // 2):
            pixels = (noisy(level, index) * 255).astype(np.uint8)
            cv2.imwrite(str(folder / label / f"{label}{index}.png"), pixels)
    return folder
