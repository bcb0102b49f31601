"""Maps explain this network: with its parameters randomised they are others (Adebayo et al. 2018).

Independently (one layer) and cascading (that layer and all after it). Maps are compared by the rank correlation of
their cells; a map that did not depend on the parameters would keep it at 1.
"""

import numpy as np
import pytest

from model.gradcam import closed_form_maps
from model.head import Head, HeadLayer
from model.preprocessing import prepare
from model.raster import read_raster

pytestmark = pytest.mark.shared_data

BOUND = 0.5
"""Mean absolute rank correlation that the maps of a randomised network may keep with the true ones, at most."""


def ranks(values):
    order = np.argsort(values, kind="stable")
    result = np.empty(len(values))
    result[order] = np.arange(len(values))
    return result


def likeness(one, other):
    """Mean absolute Spearman correlation over the labels, of maps before ReLU."""
    pairs = [
        abs(np.corrcoef(ranks(one.contribution(i).ravel()), ranks(other.contribution(i).ravel()))[0, 1])
        for i in range(len(one.scales))
    ]
    return float(np.mean(pairs))


@pytest.fixture(scope="session")
def films(shared_data, demonstration):
    """Six radiographs of adults as tensors: on noise every channel looks alike, whatever its weight."""
    paths = sorted((shared_data / "nih").glob("*.png"))[:6]
    return np.stack([prepare(read_raster(path), demonstration.preprocessing).tensor for path in paths])


def test_a_head_with_other_weights_gives_other_maps(reader, films):
    head, chance = reader.bundle.head, np.random.default_rng(9)
    (last,) = head.layers
    alike = []
    for activations in reader.engine.run(films).activations:
        shuffled = HeadLayer(chance.permutation(last.kernel.ravel()).reshape(last.kernel.shape), last.bias)
        true = closed_form_maps(head, activations)
        assert likeness(true, closed_form_maps(head, activations)) == pytest.approx(1.0)
        alike.append(likeness(true, closed_form_maps(Head(head.pooling, (shuffled,)), activations)))
    assert np.mean(alike) < BOUND, alike


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.parametrize("manner", ["independent", "cascading"])
def test_a_network_with_other_weights_gives_other_maps(demonstration, reader, films, manner):
    import keras

    from model.cutting import with_feature_map
    from model.export import extract_head

    chance = np.random.default_rng(10)
    images = films[:4]
    true = [closed_form_maps(reader.bundle.head, each) for each in reader.engine.run(images).activations]
    network = keras.models.load_model(demonstration.weights_path, compile=False)
    two_outputs = with_feature_map(network, demonstration.explanation_layer)  # it shares the layers
    layers = [layer for layer in network.layers if layer.weights]
    kernels = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    found = {}
    stages = [layers.index(kernels[-1]), layers.index(kernels[0])]
    untouched = [layer.get_weights() for layer in layers]
    for stage in stages:
        for index, layer in enumerate(layers):
            layer.set_weights(untouched[index])
            if index == stage or (manner == "cascading" and index > stage):
                layer.set_weights([chance.permutation(w.ravel()).reshape(w.shape) for w in layer.get_weights()])
        _, activations = two_outputs.predict_on_batch(images)
        head = extract_head(network, demonstration.explanation_layer)
        found[layers[stage].name] = np.mean(
            [likeness(one, closed_form_maps(head, np.asarray(two))) for one, two in zip(true, activations, strict=True)]
        )
    # a layer in the middle of a dense block adds 32 of some hundred channels: alone it moves the maps by 2 in 100
    assert max(found.values()) < BOUND, found
