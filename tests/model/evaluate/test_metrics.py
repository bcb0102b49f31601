"""Figures of merit against scikit-learn and by hand; the distribution of training images."""

import numpy as np
import pytest

from model.bundle.calibration import Calibration
from model.bundle.training_distribution import TrainingDistribution, fit_distribution
from model.evaluate.metrics import (
    BINS,
    auroc,
    average_precision,
    brier,
    calibration_errors_by_chance,
    debiased_calibration_error,
    equal_mass_calibration_error,
    expected_calibration_error,
    reliability,
    sensitivity_specificity,
    wilson_interval,
)
from model.evaluate.metrics_with_intervals import metrics_by_domain
from model.evaluate.predictions import CalibratedPredictions, Predictions


def predictions(logits, targets, domains=None, patients=None):
    n = len(logits)
    return Predictions(
        np.asarray(logits, np.float32).reshape(n, -1),
        np.asarray(targets, np.float32).reshape(n, -1),
        np.zeros((n, 4), np.float32),
        np.array(domains if domains is not None else ["all"] * n),
        np.array(patients if patients is not None else [str(i) for i in range(n)]),
    )


@pytest.mark.parametrize(
    ("targets", "scores", "area"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ([0, 1], [0.2, 0.9], 1.0),
        ([0, 1], [0.9, 0.2], 0.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, np.nan, 1], [0.1, 0.0, 0.2], 1.0),
        ([1, 1], [0.1, 0.2], np.nan),
    ],
)
def test_area_under_the_curve_by_hand(targets, scores, area):
    value = auroc(np.array(targets, np.float32), np.array(scores, np.float32))
    assert value == pytest.approx(area, nan_ok=True)


def test_areas_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (extra [train])")
    random = np.random.default_rng(0)
    for _ in range(20):
        targets = (random.random(80) < 0.3).astype(np.float32)
        scores = np.round(random.random(80) + 0.3 * targets, 1).astype(np.float32)
        assert auroc(targets, scores) == pytest.approx(metrics.roc_auc_score(targets, scores))
        assert average_precision(targets, scores) == pytest.approx(metrics.average_precision_score(targets, scores))


def test_rates_at_a_threshold_count_the_threshold_itself_as_positive():
    targets, scores = np.array([1, 1, 0, 0], np.float32), np.array([0.5, 0.4, 0.5, 0.1], np.float32)
    assert sensitivity_specificity(targets, scores, 0.5) == (0.5, 0.5)


def test_the_calibration_error_and_its_bins_by_hand_and_by_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn is not installed (extra [train])")
    metrics = pytest.importorskip("sklearn.metrics")
    assert expected_calibration_error(
        np.array([1, 0, 1, 1], np.float32), np.array([0.25, 0.25, 0.95, 0.95], np.float32)
    ) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)
    random = np.random.default_rng(4)
    probabilities = random.random(500).astype(np.float32)
    targets = (random.random(500) < probabilities**2).astype(np.float32)
    _, said, there = reliability(targets, probabilities)
    theirs, our_axis = calibration.calibration_curve(targets, probabilities, n_bins=BINS, strategy="uniform")
    assert there == pytest.approx(theirs)
    assert said == pytest.approx(our_axis)
    assert brier(targets, probabilities) == pytest.approx(metrics.brier_score_loss(targets, probabilities))


def test_perfect_probabilities_have_the_calibration_error_of_chance_and_wrong_ones_more():
    random = np.random.default_rng(9)
    probabilities = random.random(400).astype(np.float32)
    chance = calibration_errors_by_chance(probabilities)
    mean, high = chance.mean(), np.percentile(chance, 95)
    perfect = (random.random(400) < probabilities).astype(np.float32)
    wrong = (random.random(400) < probabilities**3).astype(np.float32)
    assert 0 < mean < high < 0.15
    assert expected_calibration_error(perfect, probabilities) < high
    assert expected_calibration_error(wrong, probabilities) > high


def test_the_error_of_bins_of_equal_mass_agrees_with_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn is not installed (extra [train])")
    random = np.random.default_rng(6)
    probabilities = (random.random(400) ** 3).astype(np.float32)
    targets = (random.random(400) < probabilities**0.5).astype(np.float32)
    there, said = calibration.calibration_curve(targets, probabilities, n_bins=BINS, strategy="quantile")
    assert len(said) == BINS  # of 40 images each
    assert equal_mass_calibration_error(targets, probabilities) == pytest.approx(np.abs(there - said).mean(), abs=1e-6)


def test_the_debiased_error_is_near_nothing_for_perfect_probabilities_and_the_true_one_for_shifted_ones():
    random = np.random.default_rng(7)
    resized = []
    for _ in range(40):
        probabilities = random.uniform(0.1, 0.8, 120).astype(np.float32)
        perfect = (random.random(120) < probabilities).astype(np.float32)
        shifted = (random.random(120) < probabilities + 0.15).astype(np.float32)
        resized.append([debiased_calibration_error(truth, probabilities) ** 2 for truth in (perfect, shifted)])
        assert (
            debiased_calibration_error(perfect, probabilities)
            <= equal_mass_calibration_error(perfect, probabilities) * 2
        )
    perfect_error, shifted_error = np.sqrt(np.mean(resized, axis=0))
    assert perfect_error < 0.09  # biased upwards only by what is cut off at 0
    assert shifted_error == pytest.approx(0.15, abs=0.03)


def test_an_interval_of_a_share_does_not_vanish_at_its_ends():
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)


def metrics_of(answers, threshold=0.5):
    plain = Calibration("", (), np.ones(1, np.float32), np.zeros(1, np.float32), {"X": threshold})
    n = len(answers.logits)
    thresholds = np.full((n, 1), threshold)
    calibrated = CalibratedPredictions(
        plain.probabilities(answers.logits), thresholds, np.array([""] * n), np.array(["everyone"] * n)
    )
    return metrics_by_domain(answers, calibrated, ["X"])


def test_intervals_are_of_patients_so_that_repeated_images_do_not_narrow_them():
    random = np.random.default_rng(2)
    targets = (random.random(60) < 0.5).astype(np.float32)
    logits = random.normal(size=60) + targets
    names = [str(i) for i in range(60)]
    once = metrics_of(predictions(logits, targets, None, names))
    five = metrics_of(predictions(np.tile(logits, 5), np.tile(targets, 5), None, names * 5))

    def width(cell):
        return cell["auroc_interval"][1] - cell["auroc_interval"][0]

    assert five["all"]["X"]["auroc"] == pytest.approx(once["all"]["X"]["auroc"])
    assert width(five["all"]["X"]) == pytest.approx(width(once["all"]["X"]), rel=0.25)
    assert five["all"]["X"]["patients"] == 60


def test_a_domain_that_knows_one_value_only_has_no_figures():
    result = metrics_of(predictions([1, 2, 3, 4], [1, 1, 0, 1], ["a", "a", "b", "b"]))
    assert result["a"] == {}
    assert set(result["b"]) == {"X"}


def test_figures_of_a_label_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (extra [train])")
    random = np.random.default_rng(5)
    targets = (random.random(200) < 0.4).astype(np.float32)
    logits = (random.normal(size=200) + 1.5 * targets).astype(np.float32)
    cell = metrics_of(predictions(logits, targets), 0.7)["all"]["X"]
    given = 1 / (1 + np.exp(-logits))
    called = given >= 0.7
    (tn, fp), (fn, tp) = metrics.confusion_matrix(targets, called)
    assert cell["confusion"] == {
        "true_positive": tp, "false_negative": fn, "false_positive": fp, "true_negative": tn
    }  # fmt: skip
    assert cell["sensitivity"] == pytest.approx(metrics.recall_score(targets, called), abs=1e-4)
    assert cell["specificity"] == pytest.approx(metrics.recall_score(targets, called, pos_label=0), abs=1e-4)
    assert cell["auroc"] == pytest.approx(metrics.roc_auc_score(targets, given), abs=1e-4)
    assert cell["average_precision"] == pytest.approx(metrics.average_precision_score(targets, given), abs=1e-4)
    assert cell["brier"] == pytest.approx(metrics.brier_score_loss(targets, given), abs=1e-4)


def features(random, profile, n, brightness=1.0):
    """Features as after a ReLU: a profile that a domain has, some varying much and some hardly."""
    varied = profile * np.exp(random.normal(size=(n, len(profile))) * np.linspace(0.8, 0.05, len(profile)))
    return (brightness * varied).astype(np.float32)


@pytest.fixture
def profiles():
    random = np.random.default_rng(5)
    return {"adults": random.random(60) + 0.1, "children": random.random(60) + 0.1}


@pytest.fixture
def fitted(profiles):
    random = np.random.default_rng(3)
    parts = [{name: features(random, profile, 800) for name, profile in profiles.items()} for _ in range(2)]
    return fit_distribution(*parts, kept=16)


def test_one_image_in_a_hundred_of_each_domain_is_outside(fitted, profiles):
    random = np.random.default_rng(6)
    for profile in profiles.values():
        assert (fitted.score(features(random, profile, 4000)) > 1).mean() == pytest.approx(0.01, abs=0.012)


def test_another_profile_of_features_is_outside_and_a_brighter_image_is_not(fitted, profiles):
    random = np.random.default_rng(7)
    foreign = features(random, np.roll(profiles["adults"], 20), 50)
    assert (fitted.score(foreign) > 1).all()
    brighter = features(random, profiles["adults"], 400, brightness=3.0)
    assert (fitted.score(brighter) > 1).mean() < 0.05


def test_an_image_without_any_feature_is_outside(fitted):
    assert fitted.score(np.zeros((1, 60), np.float32))[0] > 1


def test_a_distribution_reads_back_from_its_arrays(fitted, profiles):
    again = TrainingDistribution.from_arrays(fitted.domains, fitted.to_arrays())
    some = features(np.random.default_rng(8), profiles["children"], 20)
    assert again.score(some) == pytest.approx(fitted.score(some), rel=1e-5)
