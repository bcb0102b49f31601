"""Transpositions move down and out of a compiled network, and what it answers stays the same."""

import numpy as np
import pytest

from model.engine.transpose_sinking import fold_weights, sink_transpositions

openvino = pytest.importorskip("openvino")
from openvino import opset13 as ops  # noqa: E402

NHWC, NCHW, SWAPPED = (0, 2, 3, 1), (0, 3, 1, 2), (0, 3, 2, 1)


def turned(value, order):
    return ops.transpose(value, ops.constant(np.array(order, np.int64)))


def answers(network, tensors, precision="f32"):
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    found = compiled([tensors])
    return [np.array(found[index]) for index in range(len(compiled.outputs))]


def counted(network, kind="Transpose"):
    return sum(node.get_type_name() == kind for node in network.get_ops())


@pytest.fixture
def chance():
    return np.random.default_rng(3)


@pytest.fixture
def tensors(chance):
    return chance.normal(size=(1, 12, 10, 3)).astype(np.float32)


def convolved(value, chance, channels_in, channels):
    """A convolution as Keras' backend writes it: transposed before and after, its weights too."""
    kernel = ops.constant(chance.normal(size=(3, 3, channels_in, channels)).astype(np.float16))
    weights = turned(ops.convert(kernel, "f32"), (3, 2, 0, 1))
    found = ops.convolution(turned(value, NCHW), weights, [1, 1], [1, 1], [1, 1], [1, 1])
    return turned(found, NHWC)


def normalised(value, chance, channels):
    """A normalisation as Keras' backend writes it, with height and width swapped."""
    gamma, beta, mean, variance = (chance.random(channels).astype(np.float32) + 0.2 for _ in range(4))
    found = ops.batch_norm_inference(turned(value, SWAPPED), gamma, beta, mean, variance, 1e-3)
    return turned(found, SWAPPED)


@pytest.fixture
def network(chance):
    """Everything that transpositions sink past, and what they do not: a mean over axes, a reshape, a broadcast."""
    image = ops.parameter([-1, 12, 10, 3], np.float32)
    first = ops.relu(normalised(convolved(image, chance, 3, 4), chance, 4))
    second = ops.swish(convolved(first, chance, 4, 4))
    joined = ops.concat([first, second], 3)
    sides = [ops.constant(np.array(side, np.int64)) for side in ([0, 1, 2, 0], [0, 0, 1, 0])]
    padded = ops.pad(joined, *sides, "constant", ops.constant(np.float32(0.5)))
    third = convolved(padded, chance, 8, 8)
    scaled = ops.multiply(third, ops.constant(chance.random((1, 1, 1, 8)).astype(np.float32)))
    residual = ops.add(ops.clamp(scaled, 0.0, 6.0), third)
    shifted = ops.subtract(ops.constant(np.float32(1.0)), residual)
    squeezed = ops.reduce_mean(shifted, ops.constant(np.array([1, 2], np.int64)), True)
    gated = ops.multiply(shifted, ops.sigmoid(squeezed))
    broadcast = ops.add(gated, ops.constant(chance.random(8).astype(np.float32)))
    flat = ops.reshape(broadcast, ops.constant(np.array([0, -1], np.int64)), True)
    return openvino.Model([broadcast, flat], [image])


def test_answers_stay_the_same_and_hardly_a_transposition_of_images_is_left(network, tensors):
    before, number = answers(network, tensors), counted(network)
    assert sink_transpositions(network) == number - counted(network)
    assert counted(network) == 3 + 2  # of weights; of the image, and of what is asked for
    after = answers(network, tensors)
    assert [value.shape for value in after] == [value.shape for value in before]
    for one, other in zip(before, after, strict=True):
        assert other == pytest.approx(one, abs=1e-4)
    assert sink_transpositions(network) == 0


def test_weights_are_folded_to_constants(network, tensors):
    before = answers(network, tensors)
    sink_transpositions(network)
    fold_weights(network)
    for node in network.get_ops():
        if node.get_type_name() == "Convolution":
            assert node.input_value(1).get_node().get_type_name() == "Constant"
    for one, other in zip(before, answers(network, tensors), strict=True):
        assert other == pytest.approx(one, abs=1e-4)


def test_the_demonstration_network_answers_the_same_and_is_quicker_by_hundreds_of_transpositions(demonstration):
    written, sunk = (openvino.Core().read_model(demonstration.network_path) for _ in range(2))
    image = demonstration.golden.tensors[:1]
    for each in (written, sunk):
        each.reshape(list(image.shape))
    assert sink_transpositions(sunk) > 450
    for one, other in zip(answers(written, image), answers(sunk, image), strict=True):
        assert other == pytest.approx(one, abs=1e-4)
    compiled = openvino.Core().compile_model(sunk, "CPU")
    run = [node.get_rt_info()["layerType"] for node in compiled.get_runtime_model().get_ops()]
    assert sum(str(getattr(kind, "value", kind)) == "Transpose" for kind in run) <= 3
