"""Losses and weights as worked by hand and by scikit-learn; and that nothing of a bundle is fitted on the test part."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.dataset.samples import Sample, Source
from model.preprocessing.tensor import Preprocessing
from model.train.architecture import build_network
from model.train.batches import ImageCache, class_weights
from model.train.fitting import TrainingDiverged, fit
from model.train.history import EpochRecord
from model.train.losses import masked_loss, masked_softmax_loss, pack_targets
from model.train.plan import FittingPlan, TrainingPlan
from model.train.schedule import Stage
from model.train.training import make_bundle

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(300)]
SMALL = Preprocessing(size=32, channels=1, mean=(0.5,), std=(0.25,))


def packed(targets, weights):
    return pack_targets(np.array(targets, np.float32), np.array(weights, np.float32))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_is_the_one_of_its_authors(gamma):
    """Lin et al. 2017: (1 - p_t)^gamma times the cross-entropy -log p_t, p_t being the true value's probability."""
    p, q = 0.9, 0.2  # said for a label that is there, and for one that is not
    logits = np.log([[p / (1 - p), q / (1 - q)]]).astype(np.float32)
    expected = 1.0 * (1 - p) ** gamma * -math.log(p) + 3.0 * q**gamma * -math.log(1 - q)
    assert np.asarray(masked_loss(packed([[1, 0]], [[1, 3]]), logits, gamma)) == pytest.approx([expected], rel=1e-4)
    scores = np.log([[0.7, 0.2, 0.1]]).astype(np.float32)
    expected = 2.0 * (1 - 0.2) ** gamma * -math.log(0.2)
    found = np.asarray(masked_softmax_loss(packed([[0, 1, 0]], [[2, 2, 2]]), scores, gamma))
    assert found == pytest.approx([expected], rel=1e-4)


def test_class_weights_are_scikit_learns_balanced_ones():
    from sklearn.utils.class_weight import compute_class_weight

    classes = np.array([0] * 20 + [1] * 7 + [2] * 3)
    targets = np.eye(3, dtype=np.float32)[classes]
    cache = ImageCache(np.zeros((30, 4, 4), np.uint16), np.arange(30), targets, ("a",) * 30)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=classes)
    weights = class_weights(cache, balanced=True)
    for number in range(3):
        assert weights[classes == number, number] == pytest.approx(expected[number])
    assert (class_weights(cache, balanced=False) == 1.0).all()


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(tmp_path):
    random = np.random.default_rng(0)
    targets = np.array([[0.0], [1.0]] * 8, np.float32)
    cache = ImageCache(random.integers(0, 65535, (16, 32, 32), np.uint16), np.arange(16), targets, ("a",) * 16)
    plan = FittingPlan(
        labels=("A",),
        preprocessing=SMALL,
        epochs=8,
        batch=4,
        stages=(Stage(32, 1.0),),
        architecture="tiny",
        learning_rate=1e36,
    )
    with pytest.raises(TrainingDiverged, match=r"the loss is (nan|inf) in epoch \d+, step \d+: a lower learning rate"):
        fit(plan, {"training": cache, "validation": cache}, tmp_path)


def image(folder, number, level):
    random = np.random.default_rng([number, level])
    path = folder / f"{number}-{level}.png"
    cv2.imwrite(str(path), np.clip(random.normal(level, 40, (48, 48)), 0, 255).astype(np.uint8))
    return path


def part(folder, first, count, flipped=False):
    """Bright and dark noise; a fifth of the labels the wrong way round, so that no threshold is trivial."""
    samples = []
    for number in range(first, first + count):
        present = number % 2 == 0
        labelled = float(present != (number % 5 == 0) != flipped)
        path = image(folder, number, 150 if present else 100)
        samples.append(Sample(path, "resized", f"resized:{number}", {"Bright": labelled}, f"{number:064d}", age=40.0))
    return samples


def made(tmp_path, name, parts):
    plan = TrainingPlan(
        sources=(Source(tmp_path, "resized"),),
        output=tmp_path / name,
        name="resized",
        preprocessing=SMALL,
        architecture="tiny",
        domain_ages={"resized": ((0, 99),)},
    )
    weights = tmp_path / "some.weights.h5"
    if not weights.exists():
        build_network(1, 32, 1, architecture="tiny").save_weights(weights)
    history = [EpochRecord(1, 32, 8, 1.0, 1e-3, 0.7, 0.7, 0.7, 0.5, 0.5, "")]
    return make_bundle(plan, ("Bright",), ("Bright",), parts, weights, history)


def test_thresholds_calibration_and_distribution_do_not_see_the_test_part(tmp_path):
    parts = {"training": part(tmp_path, 0, 24), "validation": part(tmp_path, 100, 20), "test": part(tmp_path, 200, 12)}
    one = made(tmp_path, "one", parts)
    other = made(tmp_path, "other", {**parts, "test": part(tmp_path, 301, 16, flipped=True)})
    assert json.dumps(one.metrics["test"]) != json.dumps(other.metrics["test"]), "the test part is another"
    for calibration, same in zip((one.everyone, *one.groups), (other.everyone, *other.groups), strict=True):
        assert calibration.thresholds == same.thresholds
        assert calibration.thresholds["Bright"] != 0.5
        assert np.array_equal(calibration.temperatures, same.temperatures)
        assert np.array_equal(calibration.biases, same.biases)
        assert calibration.temperatures[0] != 1.0
    assert len(one.groups) == 1
    for key, value in one.distribution.to_arrays().items():
        assert np.array_equal(value, other.distribution.to_arrays()[key]), key
    card = Path(one.card_path).read_text()
    assert "\ntiny on 32 x 32 pixels" in card, "the card names the network that it is of"
    assert one.heatmap == other.heatmap
    assert one.heatmap.fitted_on == "20 validation images"
    assert f"It was fitted on {one.heatmap.fitted_on}" in card
