"""Figures of merit against scikit-learn and by hand; calibration and thresholds on answers that are known."""

import numpy as np
import pytest

from model.distribution import TrainingDistribution, fit_distribution
from model.evaluation import Measured, choose_thresholds, figures_of_merit, fit_temperatures
from model.figures import auroc, average_precision, sensitivity_specificity


def measured(logits, targets, domains=None, patients=None):
    n = len(logits)
    return Measured(
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


def test_the_temperature_that_made_the_logits_overconfident_is_found():
    random = np.random.default_rng(1)
    logits = random.normal(scale=2, size=8000)
    targets = (random.random(8000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    assert fit_temperatures(measured(3 * logits, targets))[0] == pytest.approx(3, rel=0.1)


def test_a_label_that_is_not_known_stays_uncalibrated():
    assert fit_temperatures(measured([1.0, -1.0], [np.nan, np.nan]))[0] == 1.0


def test_the_threshold_divides_the_classes_of_every_domain():
    logits = [-2, -1, 1, 2, -3, -0.5, 0.5, 3]
    thresholds = choose_thresholds(
        measured(logits, [0, 0, 1, 1, 0, 0, 1, 1], ["a"] * 4 + ["b"] * 4), np.ones(1, np.float32)
    )
    assert 1 / (1 + np.exp(0.5)) < thresholds[0] < 1 / (1 + np.exp(-0.5))


def test_intervals_are_of_patients_so_that_repeated_images_do_not_narrow_them():
    random = np.random.default_rng(2)
    targets = (random.random(60) < 0.5).astype(np.float32)
    logits = random.normal(size=60) + targets
    names = [str(i) for i in range(60)]
    once = figures_of_merit(measured(logits, targets, None, names), ["X"], np.ones(1, np.float32), {"X": 0.5})
    fivefold = measured(np.tile(logits, 5), np.tile(targets, 5), None, names * 5)
    five = figures_of_merit(fivefold, ["X"], np.ones(1, np.float32), {"X": 0.5})

    def width(cell):
        return cell["auroc_interval"][1] - cell["auroc_interval"][0]

    assert five["all"]["X"]["auroc"] == pytest.approx(once["all"]["X"]["auroc"])
    assert width(five["all"]["X"]) == pytest.approx(width(once["all"]["X"]), rel=0.25)
    assert five["all"]["X"]["patients"] == 60


def test_a_domain_that_knows_one_value_only_has_no_figures():
    result = figures_of_merit(
        measured([1, 2, 3, 4], [1, 1, 0, 1], ["a", "a", "b", "b"]), ["X"], np.ones(1, np.float32), {"X": 0.5}
    )
    assert result["a"] == {}
    assert set(result["b"]) == {"X"}


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


def test_another_profile_of_features_is_outside_and_a_brighter_film_is_not(fitted, profiles):
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
