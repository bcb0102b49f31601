"""Training: unknown labels teach nothing, domains weigh even, and a run gives a complete bundle."""

import csv
import math

import cv2
import numpy as np
import pytest

from model.bundle.bundle import load_bundle
from model.dataset.sources import DatasetInvalid, Source
from model.preprocessing.tensor import Preprocessing
from model.train.augmentation import Augmentation
from model.train.batches import EpochSampler, ImageCache, cell_weights, domain_shares, training_batches
from model.train.losses import pack_targets
from model.train.plan import FittingPlan, TrainingPlan
from model.train.schedule import Stage
from model.train.training import train

NAN = math.nan
SMALL = Preprocessing(size=64, channels=1, mean=(0.5,), std=(0.25,))


def cache(targets, domains, size=8):
    resized, rows = np.zeros((len(domains), size, size), np.uint16), np.arange(len(domains))
    return ImageCache(resized, rows, np.array(targets, np.float32), tuple(domains))


def test_positives_and_negatives_weigh_the_same_in_each_domain():
    targets = [[1, NAN], [1, NAN], [1, NAN], [0, NAN], [0, 1], [0, 0], [1, 0], [0, 0]]
    domains = ["children"] * 4 + ["adults"] * 4
    weights = cell_weights(cache(targets, domains))
    for domain, label in (("children", 0), ("adults", 0), ("adults", 1)):
        rows = [i for i, name in enumerate(domains) if name == domain]
        positive = sum(weights[i, label] for i in rows if targets[i][label] == 1)
        negative = sum(weights[i, label] for i in rows if targets[i][label] == 0)
        assert positive == pytest.approx(negative)
        assert positive > 0
    assert not weights[:4, 1].any(), "children know nothing of the second label"
    assert weights[:4].sum() == pytest.approx(weights[4:].sum()), "a domain does not weigh more for knowing more labels"


def test_a_label_that_a_domain_knows_one_value_of_would_teach_the_domain_and_weighs_nothing():
    weights = cell_weights(cache([[1], [1], [0], [1]], ["children", "children", "adults", "adults"]))
    assert not weights[:2].any()
    assert weights[2:].all()


def test_packed_targets_have_no_nan_and_no_weight_where_unknown():
    packed = pack_targets(np.array([[1, NAN, 0]], np.float32), np.array([[2, 3, 4]], np.float32))
    assert packed.tolist() == [[1, 0, 0, 2, 0, 4]]


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_an_unknown_label_has_no_gradient_and_the_others_have_the_one_worked_by_hand():
    import tensorflow as tf

    from model.train.losses import masked_loss

    logits = tf.Variable([[0.0, 3.0, -2.0]])
    packed = tf.constant(pack_targets(np.array([[1, NAN, 0]], np.float32), np.array([[2, 9, 0.5]], np.float32)))
    with tf.GradientTape() as tape:
        loss = masked_loss(packed, logits)
    expected = 2 * math.log(2) + 0.5 * math.log1p(math.exp(-2))
    assert loss.numpy()[0] == pytest.approx(expected, rel=1e-5)
    gradient = tape.gradient(loss, logits).numpy()[0]
    assert gradient == pytest.approx([2 * (0.5 - 1), 0.0, 0.5 / (1 + math.exp(2))], rel=1e-5)


def test_a_small_domain_gets_its_third_and_a_large_one_keeps_its_share():
    assert domain_shares(["a"] * 90 + ["b"] * 10) == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert domain_shares(["a"] * 55 + ["b"] * 45) == pytest.approx({"a": 0.55, "b": 0.45})
    assert domain_shares(["a"] * 5) == {"a": 1.0}


def test_an_epoch_shows_each_image_of_a_domain_before_any_comes_again():
    sampler = EpochSampler(["a"] * 90 + ["b"] * 10, 45, np.random.default_rng(0))
    first, second, third = sampler.epoch(), sampler.epoch(), sampler.epoch()
    large = [[i for i in epoch if i < 90] for epoch in (first, second, third)]
    assert [len(part) for part in large] == [30, 30, 30]
    assert len({index for part in large for index in part}) == 90
    small = [i for epoch in (first, second) for i in epoch if i >= 90]
    assert len(small) == 30
    assert {small.count(i) for i in set(small)} == {3}


def test_batches_are_tensors_of_the_stages_size_in_the_networks_range():
    held = cache([[1.0]] * 10, ["a"] * 10, size=64)

    def made(begin=0):
        weights = np.ones((10, 1), np.float32)
        return list(training_batches(held, weights, np.arange(10), SMALL, 32, 4, Augmentation(), (1, 0), 0.4, begin))

    batches = made()
    assert np.array_equal(made(1)[0][0], batches[1][0]), "an epoch can begin at any batch"
    assert [tensors.shape for tensors, _ in batches] == [(4, 32, 32, 1)] * 2
    assert all(np.abs(tensors).max() <= 2.0 for tensors, _ in batches)


def test_augmentation_keeps_the_sides_and_the_range():
    square = np.zeros((64, 64), np.float32)
    square[20:44, 8:24] = 0.8
    random = np.random.default_rng(0)
    for _ in range(50):
        changed = Augmentation(noise=0.0, brightness=0.0).apply(square, random)
        assert changed.min() >= 0.0
        assert changed.max() <= 1.0
        assert changed[:, :32].mean() > changed[:, 32:].mean(), "never mirrored"


def test_augmentation_reaches_the_brightness_of_images_rendered_through_their_own_window():
    random = np.random.default_rng(0)
    means = [Augmentation().apply(np.full((16, 16), 0.55, np.float32), random).mean() for _ in range(300)]
    assert min(means) < 0.4
    assert max(means) > 0.75


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"labels": ()}, DatasetInvalid, "no label to train on"),
        ({"labels": ("X",), "epochs": 0}, ValueError, "epochs is 0"),
        ({"labels": ("X",), "stages": (Stage(128, 1.0),)}, ValueError, "must have the network's size 224"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_reason(values, error, message):
    with pytest.raises(error, match=message):
        FittingPlan(**values)


@pytest.fixture
def resized(tmp_path):
    """A collection that a network learns at once: bright or dark resized, a patient each."""
    random = np.random.default_rng(0)
    for name, level in (("NORMAL", 60), ("Bright", 190)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(level - 20, level + 20, (80, 80), np.uint8)
            cv2.imwrite(str(tmp_path / "data" / name / f"{name}{index}.png"), pixels)
    return Source(tmp_path / "data", "resized")


def test_a_label_that_is_not_in_the_data_is_refused_before_anything_is_computed(resized, tmp_path):
    plan = TrainingPlan((resized,), tmp_path / "out", "test", labels=("Edema",))
    with pytest.raises(DatasetInvalid, match="the label Edema; labels in the data: Bright"):
        train(plan)


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.timeout(600)
def test_training_writes_a_complete_bundle_that_reads_images(resized, tmp_path):
    from model.inference.predictor import Predictor
    from model.preprocessing.image_files import read_raster
    from model.preprocessing.tensor import prepare

    progress = []
    plan = TrainingPlan(
        sources=(resized,),
        output=tmp_path / "out",
        name="resized",
        minimum_positives=3,
        epochs=2,
        batch=8,
        preprocessing=SMALL,
        precision="float32",
        architecture="tiny",
        ages=((0, 99),),
    )
    bundle = train(plan, on_progress=progress.append)
    assert bundle.label_names == ("Bright",)
    assert bundle.metrics["test"]["precision"] == "f32", "whatever the processor has"
    assert load_bundle(tmp_path / "out").digest == bundle.digest
    for name in ("README.md", "curves.png", "history.csv", "split.csv", "metrics.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    with (tmp_path / "out" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(row["validation_loss"])) for row in rows)
    assert {"reading images", "training", "measuring"} == {step.phase for step in progress}
    assert progress[-1].done == progress[-1].total
    predictor = Predictor.open(tmp_path / "out")
    image = read_raster(next((resized.folder / "Bright").iterdir()))
    (result,) = predictor.predict([prepare(image, bundle.preprocessing)])
    assert result.probabilities.shape == (1,)
    assert 0 <= result.probabilities[0] <= 1
