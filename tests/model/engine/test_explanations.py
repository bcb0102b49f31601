"""Maps explain this network: with its parameters randomised they are others (Adebayo et al. 2018).

Cascading, from the head down to the stem, block by block; and independently, one block's layers alone. Maps are
compared before ReLU by the rank correlation of their cells and by their structure; maps that did not depend on the
parameters of a block would keep both at 1. What maps of nothing in common show is measured beside it: those of other
images.
"""

import numpy as np
import pytest

from model.explain.gradcam import closed_form_maps
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import prepare

pytestmark = [pytest.mark.shared_data, pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow")]

BLOCKS = ("head", "conv5", "conv4", "conv3", "conv2", "stem")
IMAGES = 4
PASSED_BY = 512
"""The first channels of the feature map, which conv5 was given by the transition before it."""


def ranks(values):
    order = np.argsort(values, kind="stable")
    result = np.empty(len(values))
    result[order] = np.arange(len(values))
    return result


def rank_correlation(one, other):
    """Spearman's; 0 of a map without structure, as a network of random weights may give."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(ranks(one.ravel()), ranks(other.ravel()))[0, 1])


def structure(one, other):
    """SSIM (Wang et al. 2004) of maps scaled to mean 0 and deviation 1, in windows of 5 x 5 cells."""
    from skimage.metrics import structural_similarity

    def scaled(values):
        return (values - values.mean()) / (values.std() or 1.0)

    a, b = scaled(one.astype(np.float64)), scaled(other.astype(np.float64))
    return float(structural_similarity(a, b, win_size=5, data_range=max(np.ptp(a), np.ptp(b), 1e-9)))


def similarity(true, other):
    """Mean absolute rank correlation and mean SSIM over images and labels."""
    pairs = [
        (one.contribution(label), two.contribution(label))
        for one, two in zip(true, other, strict=True)
        for label in range(len(one.scales))
    ]
    return (
        float(np.mean([abs(rank_correlation(*pair)) for pair in pairs])),
        float(np.mean([structure(*pair) for pair in pairs])),
    )


def block_of(layer):
    """The block that a layer of DenseNet121 belongs to; transitions go with the block above them."""
    name = layer.name
    for number in "2345":
        if name.startswith((f"conv{number}_", f"pool{number}_")):
            return f"conv{number}"
    if name.startswith("conv1"):
        return "stem"
    return "conv5" if name == "bn" else "head"


@pytest.fixture(scope="module")
def randomised(shared_data, demonstration):
    """Likeness of the true maps and those with blocks randomised: {manner: {block: (rank correlation, SSIM)}}."""
    import keras

    from model.network.graph_cutting import with_feature_map
    from model.network.head_extraction import extract_head

    paths = sorted((shared_data / "nih").glob("*.png"))[:IMAGES]
    images = np.stack([prepare(read_raster(path), demonstration.preprocessing).tensor for path in paths])
    network = keras.models.load_model(demonstration.weights_path, compile=False)
    two_outputs = with_feature_map(network, demonstration.explanation_layer)  # it shares the layers
    layers = [(block_of(layer), layer, layer.get_weights()) for layer in network.layers if layer.weights]
    assert {block for block, _, _ in layers} == set(BLOCKS)

    def maps(first_channel=0):
        _, activations = two_outputs.predict_on_batch(images)
        head, activations = extract_head(network, demonstration.explanation_layer), np.array(activations)
        activations[..., :first_channel] = 0
        return [closed_form_maps(head, each) for each in activations]

    true, own_part = maps(), maps(PASSED_BY)
    assert similarity(true, true) == pytest.approx((1.0, 1.0))
    found = {"cascading": {}, "independent": {}, "other images": similarity(true, true[1:] + true[:1])}
    for manner in ("cascading", "independent"):
        for number, block in enumerate(BLOCKS):
            chance = np.random.default_rng(10)
            for own, layer, weights in layers:
                random = own in BLOCKS[: number + 1] if manner == "cascading" else own == block
                layer.set_weights([chance.permutation(w.ravel()).reshape(w.shape) if random else w for w in weights])
            found[manner][block] = similarity(true, maps())
            if (manner, block) == ("independent", "conv5"):
                found["conv5's own channels"] = similarity(own_part, maps(PASSED_BY))
    return found


def test_from_the_head_down_the_maps_lose_all_likeness_and_do_not_win_it_back(randomised):
    by_rank, by_structure = zip(*(randomised["cascading"][block] for block in BLOCKS), strict=True)
    unlike_rank, unlike_structure = randomised["other images"]
    assert max(by_rank) < min(0.35, unlike_rank), randomised
    assert max(by_structure) < max(0.15, unlike_structure), randomised
    assert by_rank[-1] < by_rank[0] < 1
    assert np.diff([1, *by_rank]).max() < 0.05, "a deeper randomisation may not bring similarity back"
    assert np.diff([1, *by_structure]).max() < 0.05


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_by_itself_changes_the_maps(randomised, block):
    by_rank, by_structure = randomised["independent"][block]
    # Half of the last feature map's channels pass conv5 by (a dense block hands on what it was given): with conv5
    # random that half still speaks. Of the half that is conv5's own, nothing is left.
    bound = 0.85 if block == "conv5" else 0.55
    assert by_rank < bound, randomised
    assert by_structure < bound - 0.2, randomised


def test_of_the_part_that_the_last_block_adds_nothing_is_left_when_it_is_random(randomised):
    by_rank, by_structure = randomised["conv5's own channels"]
    assert by_rank < 0.5, randomised
    assert by_structure < 0.25, randomised
