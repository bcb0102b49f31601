"""Training from Keras' ImageNet file: the layout of the file that Keras publishes, and the normalisation it is for."""

import re

import h5py
import numpy as np
import pytest

from model.preprocessing.tensor import Preprocessing, normalise
from model.train.architecture import build_network
from model.train.initial_weights import load_start, starting_preprocessing

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A DenseNet121 without top, and its weights as in Keras' densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5.

    A group a layer in the network's order, also of those without weights, named as Keras 2 named them (``conv1/conv``);
    in each the names of its weights, which repeat the layer's.
    """
    import keras

    network = keras.applications.DenseNet121(include_top=False, weights=None)
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("start") / "notop.h5"
    with h5py.File(path, "w") as file:
        names = [re.sub("^conv1_", "conv1/", layer.name) for layer in network.layers]
        file.attrs["layer_names"] = [name.encode() for name in names]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.0"
        for name, layer in zip(names, network.layers, strict=True):
            layer.set_weights([random.random(value.shape, np.float32) for value in layer.get_weights()])
            group = file.create_group(name)
            weights = [f"{name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, value in zip(weights, layer.get_weights(), strict=True):
                group[weight] = value
    return network, path


def test_the_published_layout_fills_every_layer_of_the_base(published):
    theirs, path = published
    network = build_network(3, None, 3)
    head = network.get_layer("logits").get_weights()[0]
    assert load_start(network, path, ("A", "B", "C")) == "the weights file notop.h5"
    with_weights = [layer for layer in theirs.layers if layer.weights]
    assert len(with_weights) == 241, "120 convolutions and 121 normalisations"
    for layer in with_weights:
        own = network.get_layer(layer.name).get_weights()
        assert all(np.array_equal(mine, other) for mine, other in zip(own, layer.get_weights(), strict=True)), (
            layer.name
        )
    assert np.array_equal(network.get_layer("logits").get_weights()[0], head), "the head is its own"


def test_the_normalisation_of_the_published_weights_becomes_the_tensors(published):
    from keras.applications.densenet import preprocess_input

    spec = starting_preprocessing(published[1], Preprocessing())
    square = np.random.default_rng(1).random((224, 224), np.float32)
    expected = preprocess_input(np.repeat(255 * square[..., np.newaxis], 3, axis=-1))
    assert np.abs(normalise(square, spec) - expected).max() < 1e-5
