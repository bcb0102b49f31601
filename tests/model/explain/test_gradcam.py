"""Closed-form Grad-CAM: against hand-worked cases, finite differences and TensorFlow's tape."""

import numpy as np
import pytest

from model.explain.gradcam import GradCamMaps, closed_form_maps
from model.explain.head import ACTIVATIONS, Head, HeadLayer, HeadUnsupported

RANDOM = np.random.default_rng(3)


def layer(inputs, outputs, activation="linear"):
    kernel = RANDOM.normal(size=(inputs, outputs)).astype(np.float32) / np.sqrt(inputs)
    return HeadLayer(kernel.astype(np.float32), RANDOM.normal(size=outputs).astype(np.float32), activation)


def test_maps_of_a_linear_head_worked_by_hand():
    activations = np.zeros((1, 2, 2), np.float32)
    activations[0, 0] = (4.0, 0.0)
    activations[0, 1] = (0.0, 2.0)
    head = Head("average", (HeadLayer(np.array([[1.0], [-3.0]], np.float32), np.array([0.5], np.float32)),))
    maps = closed_form_maps(head, activations)
    assert maps.contribution(0) == pytest.approx(np.array([[2.0, -3.0]]), rel=1e-3)


def test_cells_of_a_linear_head_sum_to_the_logit_without_its_constant():
    head = Head("average", (layer(32, 5),))
    activations = RANDOM.normal(size=(7, 7, 32)).astype(np.float32)
    logits = head.logits(head.pooled(activations))
    maps = closed_form_maps(head, activations)
    for index in range(5):
        assert maps.contribution(index).sum() == pytest.approx(logits[index] - head.layers[0].bias[index], abs=2e-3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_jacobian_is_what_finite_differences_say(activation):
    scale = HeadLayer(np.array(RANDOM.normal(size=12), np.float32), np.array(RANDOM.normal(size=12), np.float32))
    head = Head("average", (layer(20, 12, activation), scale, layer(12, 3, activation), layer(3, 4)))
    pooled, step = RANDOM.normal(size=20), 1e-6
    jacobian = head.jacobian(pooled)
    for feature in range(20):
        shift = np.eye(20)[feature] * step
        slope = (head.logits(pooled + shift) - head.logits(pooled - shift)) / (2 * step)
        assert jacobian[:, feature] == pytest.approx(slope, abs=1e-5)


def test_a_head_reads_back_from_what_a_bundle_holds():
    head = Head("flatten", (layer(8, 6, "relu"), layer(6, 2)))
    again = Head.from_parts(head.as_table(), head.to_arrays())
    pooled = RANDOM.normal(size=8)
    assert again.logits(pooled) == pytest.approx(head.logits(pooled))
    assert again.pooling == "flatten"


def test_what_cannot_be_differentiated_is_named():
    with pytest.raises(HeadUnsupported, match="'softmax'; allowed are linear"):
        layer(3, 2, "softmax")
    with pytest.raises(HeadUnsupported, match="pooling is 'maximum'"):
        Head.from_parts({"pooling": "maximum", "activations": []}, {})


def test_maps_survive_bytes():
    maps = GradCamMaps.from_contributions(RANDOM.normal(size=(5, 7, 7)) * 1e-5)
    again = GradCamMaps.from_bytes(maps.to_bytes())
    assert np.array_equal(again.values, maps.values)
    assert np.array_equal(again.scales, maps.scales)
    assert len(maps.to_bytes()) == 10 + 5 * 4 + 5 * 49 * 2


def test_tiny_maps_keep_their_shape_and_a_zero_map_is_zero():
    contributions = RANDOM.normal(size=(2, 3, 3)) * 1e-9
    contributions[1] = 0
    maps = GradCamMaps.from_contributions(contributions)
    assert maps.contribution(0) == pytest.approx(contributions[0], rel=2e-3, abs=1e-12)
    assert not maps.contribution(1).any()


@pytest.mark.parametrize(
    "data", [b"", b"nonsense here", GradCamMaps.from_contributions(np.ones((1, 2, 2))).to_bytes()[:-1]]
)
def test_bytes_that_are_no_maps_are_refused(data):
    with pytest.raises(ValueError, match="logit maps"):
        GradCamMaps.from_bytes(data)


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.parametrize("pooling", ["average", "flatten"])
def test_closed_form_equals_the_gradient_tape(pooling):
    import keras
    import tensorflow as tf

    from model.network.head_extraction import extract_head
    from model.network.openvino_export import with_feature_map

    layers = keras.layers
    pool = layers.GlobalAveragePooling2D() if pooling == "average" else layers.Flatten()
    network = keras.Sequential(
        [
            keras.Input((24, 24, 1)),
            layers.Conv2D(6, 5, strides=4, activation="relu", name="features"),
            pool,
            layers.Dropout(0.5),
            layers.Dense(10),
            layers.BatchNormalization(name="norm"),
            layers.Activation("silu"),
            layers.Dense(3, name="logits"),
        ]
    )
    for weight in network.get_layer("norm").weights:
        weight.assign(np.abs(RANDOM.normal(size=weight.shape)) + 0.3)
    image = RANDOM.normal(size=(1, 24, 24, 1)).astype(np.float32)
    activations = network.get_layer("features")(image)
    after = network.layers[1:]
    contributions = []
    for label in range(3):
        with tf.GradientTape() as tape:
            tape.watch(activations)
            value = activations
            for follower in after:
                value = follower(value, training=False)
            logit = value[0, label]
        gradient = tape.gradient(logit, activations).numpy()[0]
        contributions.append((activations.numpy()[0] * gradient.mean(axis=(0, 1))).sum(axis=-1))
    head = extract_head(network, "features")
    seen = with_feature_map(network, "features").predict_on_batch(image)[1][0]
    maps = closed_form_maps(head, seen)
    for label in range(3):
        expected = contributions[label]
        assert maps.contribution(label) == pytest.approx(expected, abs=1e-3 * float(np.abs(expected).max()))
