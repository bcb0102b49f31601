"""Calibration: from validation alone, apart for each group of ages, chosen by age or else by the nearest domain."""

import shutil
import tomllib

import numpy as np
import pytest
import tomli_w

from model.bundle.bundle import BundleInvalid, load_bundle
from model.bundle.calibration import Calibration, calibrated_probabilities, choose_calibration
from model.bundle.manifest import CHECKSUM_KEY
from model.demonstration.recalibration import parse_domain
from model.evaluate.calibration_fit import best_threshold, fit_calibration, fit_platt
from model.evaluate.metrics import (
    auroc,
    calibration_errors_by_chance,
    expected_calibration_error,
    sensitivity_specificity,
)
from model.evaluate.predictions import Predictions, calibrate
from model.inference.predictor import Predictor
from model.preprocessing.tensor import prepare
from model.publish.bundle_writer import rewrite_description

LABELS = ("X", "Y")


def answers(logits, targets, domains, ages=None, patients=None):
    n = len(logits)
    return Predictions(
        np.asarray(logits, np.float32).reshape(n, -1),
        np.asarray(targets, np.float32).reshape(n, -1),
        np.zeros((n, 4), np.float32),
        np.array(domains),
        np.array(patients if patients is not None else [str(i) for i in range(n)]),
        np.full(n, np.nan, np.float32) if ages is None else np.asarray(ages, np.float32),
    )


def drawn(random, n, slope, bias):
    """Logits, and targets drawn as sigmoid(slope * logit + bias) says."""
    logits = random.normal(scale=2, size=n)
    return logits, (random.random(n) < 1 / (1 + np.exp(-slope * logits - bias))).astype(np.float32)


def calibration(group="", ages=(), temperature=1.0, bias=0.0, threshold=0.5):
    return Calibration(
        group,
        ages,
        np.full(2, temperature, np.float32),
        np.full(2, bias, np.float32),
        dict.fromkeys(LABELS, threshold),
    )


def test_calibration_divides_logits_adds_the_bias_and_survives_extremes():
    logits = np.array([[0.0, 2.0, -2000.0, 2000.0, 1.0]], np.float32)
    temperatures, biases = np.array([1.0, 2.0, 1.0, 1.0, 0.5], np.float32), np.array([0, 0, 0, 0, -1], np.float32)
    expected = [0.5, 1 / (1 + np.exp(-1)), 0.0, 1.0, 1 / (1 + np.exp(-1))]
    assert calibrated_probabilities(logits, temperatures, biases)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.train
def test_the_slope_and_bias_that_made_the_answers_are_found_as_scikit_learn_finds_them():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed (extra [train])")
    logits, targets = drawn(np.random.default_rng(1), 6000, 0.4, -1.2)
    slope, bias = fit_platt(logits.astype(np.float32), targets)
    assert (slope, bias) == (pytest.approx(0.4, abs=0.04), pytest.approx(-1.2, abs=0.1))
    theirs = linear.LogisticRegression(C=1e9).fit(logits[:, np.newaxis], targets)
    assert slope == pytest.approx(theirs.coef_[0, 0], rel=1e-2)
    assert bias == pytest.approx(theirs.intercept_[0], rel=1e-2)


@pytest.mark.train
def test_few_images_divided_perfectly_do_not_give_certainty():
    slope, bias = fit_platt(np.array([-3, -2, 2, 3], np.float32), np.array([0, 0, 1, 1], np.float32))
    assert 1 / (1 + np.exp(-3 * slope - bias)) < 0.9


@pytest.mark.train
def test_a_label_put_the_wrong_way_round_is_never_turned():
    slope, _ = fit_platt(np.array([3, 2, -2, -3], np.float32), np.array([0, 0, 1, 1], np.float32))
    assert slope == pytest.approx(0.05)


@pytest.mark.train
def test_groups_of_ages_that_one_temperature_cannot_serve_are_each_calibrated():
    random = np.random.default_rng(2)
    parts = [drawn(random, 1500, 1.5, 3.0), drawn(random, 1500, 0.3, -1.0)]
    logits, targets = (np.concatenate(values) for values in zip(*parts, strict=True))
    domains = ["children"] * 1500 + ["adults"] * 1500
    both = answers(np.stack([logits, logits], 1), np.stack([targets, targets], 1), domains)
    fitted = fit_calibration(both, LABELS, {"children": ((1, 5),), "adults": ((18, 90),)})
    assert [group.group for group in fitted.groups] == ["children", "adults"]
    for group, (fresh, truth) in zip(
        fitted.groups, [drawn(random, 2000, 1.5, 3), drawn(random, 2000, 0.3, -1)], strict=True
    ):
        own = group.probabilities(np.stack([fresh, fresh], 1).astype(np.float32))[:, 0]
        shared = fitted.everyone.probabilities(np.stack([fresh, fresh], 1).astype(np.float32))[:, 0]
        assert expected_calibration_error(truth, own) < np.percentile(calibration_errors_by_chance(own), 95) + 0.015
        assert expected_calibration_error(truth, shared) > 0.1


@pytest.mark.train
def test_a_label_that_a_group_does_not_know_is_calibrated_there_as_for_everyone():
    random = np.random.default_rng(3)
    logits, targets = drawn(random, 400, 1.0, 0.5)
    unknown = np.where(np.arange(400) < 200, np.nan, targets)
    both = answers(
        np.stack([logits, logits], 1), np.stack([targets, unknown], 1), ["children"] * 200 + ["adults"] * 200
    )
    fitted = fit_calibration(both, LABELS, {"children": ((1, 5),)})
    (children,) = fitted.groups
    assert children.temperatures[1] == fitted.everyone.temperatures[1]
    assert children.thresholds["Y"] == fitted.everyone.thresholds["Y"]
    assert children.temperatures[0] != fitted.everyone.temperatures[0]


def test_a_label_that_nobody_knows_stays_uncalibrated():
    fitted = fit_calibration(answers([[1.0], [-1.0]], [[np.nan], [np.nan]], ["a", "a"]), ["X"])
    assert (fitted.everyone.temperatures[0], fitted.everyone.biases[0]) == (1.0, 0.0)
    assert fitted.everyone.thresholds == {"X": 0.5}


def test_the_threshold_divides_the_classes_of_every_domain():
    probabilities = 1 / (1 + np.exp(-np.array([-2, -1, 1, 2, -3, -0.5, 0.5, 3] * 6)))
    targets = np.array([0, 0, 1, 1] * 12, np.float32)
    domains = np.array((["a"] * 4 + ["b"] * 4) * 6)
    cut = best_threshold(targets, probabilities.astype(np.float32), domains, np.arange(48).astype(str))
    assert sensitivity_specificity(targets, probabilities, cut) == (1.0, 1.0)


def test_the_age_chooses_the_calibration_and_the_nearest_domain_where_it_cannot():
    everyone = calibration()
    groups = (calibration("children", ((1, 5),)), calibration("adults", ((18, 90),)))
    for age, nearest, expected in [
        (3.0, "adults", ("children", "age")),
        (5.9, "adults", ("children", "age")),
        (40.0, "children", ("adults", "age")),
        (10.0, "children", ("children", "nearest domain")),  # in no range
        (None, "adults", ("adults", "nearest domain")),
        (float("nan"), "adults", ("adults", "nearest domain")),
        (None, "elsewhere", ("", "everyone")),
    ]:
        chosen, why = choose_calibration(everyone, groups, age, nearest)
        assert (chosen.group, why) == expected
    assert choose_calibration(everyone, (), 40.0, "adults") == (everyone, "everyone")


def test_calibrating_predictions_gives_what_the_predictor_gives(predictor):
    random = np.random.default_rng(6)
    ages = [3.0, 40.0, None, None]
    prepared = [prepare(random.random((240, 224), dtype=np.float32), predictor.bundle.preprocessing) for _ in ages]
    groups = tuple(
        Calibration(name, limits, predictor.bundle.everyone.temperatures * factor, predictor.bundle.everyone.biases + 1,
                    dict.fromkeys(predictor.bundle.label_names, threshold))
        for name, limits, factor, threshold in (("children", ((1, 5),), 2, 0.4), ("adults", ((18, 90),), 3, 0.6))
    )  # fmt: skip
    import dataclasses

    bundle = dataclasses.replace(predictor.bundle, groups=groups)
    results = Predictor(bundle, predictor.engine).predict(prepared, ages)
    output = predictor.engine.run(np.stack([image.tensor for image in prepared]))
    predictions = Predictions(
        output.logits,
        np.zeros_like(output.logits),
        output.activations.mean(axis=(1, 2)),
        np.array(["?"] * 4),
        np.array(list("abcd")),
        np.array([np.nan if age is None else age for age in ages], np.float32),
    )
    calibrated = calibrate(predictions, bundle.label_names, bundle.everyone, bundle.groups, bundle.distribution)
    for index, result in enumerate(results):
        assert calibrated.probabilities[index] == pytest.approx(result.probabilities, abs=1e-5)
        assert calibrated.groups[index] == result.calibration.group
        assert calibrated.calibrated_by[index] == result.calibrated_by
        assert list(calibrated.thresholds[index]) == list(result.calibration.thresholds.values())
    assert [result.calibrated_by for result in results] == ["age", "age", "nearest domain", "nearest domain"]


@pytest.fixture
def copy(demonstration, tmp_path):
    return shutil.copytree(demonstration.folder, tmp_path / "copy")


def test_a_calibration_survives_the_bundle_and_leaves_the_model_the_same(copy, demonstration):
    names = demonstration.label_names
    everyone = Calibration("", (), np.full(5, 1.5, np.float32), np.full(5, 0.25, np.float32), dict.fromkeys(names, 0.3))
    groups = (Calibration("adults", ((18, 90),), np.full(5, 2, np.float32), np.full(5, -1, np.float32), dict.fromkeys(names, 0.6)),)  # fmt: skip  # noqa: E501
    again = rewrite_description(copy, everyone, groups)
    assert again.digest == demonstration.digest
    assert again.everyone.as_table(names) == everyone.as_table(names)
    assert [group.as_table(names) for group in again.groups] == [groups[0].as_table(names)]
    assert again.calibration_for(40, "children")[0].thresholds["Edema"] == 0.6


def test_probabilities_keep_their_digits_and_the_surest_images_their_order(small):
    logits = np.array([[-80], [-25], [-17], [0], [17], [18], [25]], np.float32)
    given = small.everyone.probabilities(logits)[:, 0]
    assert given[:4] == pytest.approx([1.8048514e-35, 1.3887944e-11, 4.1399377e-08, 0.5], rel=1e-5)
    nothing = np.zeros(7, np.str_)
    targets = np.array([[0], [0], [0], [0], [0], [1], [1]], np.float32)
    predictions = Predictions(logits, targets, np.ones((7, 8), np.float32), nothing, nothing)
    calibrated = calibrate(predictions, small.label_names, small.everyone, (), small.distribution)
    assert np.all(np.diff(calibrated.probabilities[:, 0]) > 0)
    assert auroc(targets[:, 0], calibrated.probabilities[:, 0]) == 1.0
    assert calibrated.positive[:, 0].tolist() == [False] * 3 + [True] * 4


def test_a_bundle_from_before_groups_and_biases_is_read_as_it_was_meant(copy):
    path = copy / "model.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    table.pop("calibration", None)
    table |= {"format": 1}
    table.pop(CHECKSUM_KEY, None)
    for entry in table["labels"]:
        entry.pop("bias", None)
        entry["temperature"] = 2.0
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    old = load_bundle(copy)
    assert old.groups == ()
    assert not old.everyone.biases.any()
    logits = np.full((1, 5), 2.0, np.float32)
    assert old.everyone.probabilities(logits)[0] == pytest.approx(1 / (1 + np.exp(-1)))


WRONG = [
    (lambda t: t.update(calibration=[{"group": "whales", "labels": t["labels"]}]), "calibration of whales"),
    (lambda t: t.update(calibration=[{"group": "adults", "labels": t["labels"][1:]}]), "adults lacks Pneumonia"),
    (lambda t: t["labels"][0].update(bias=float("inf")), "must be finite"),
    (lambda t: t["labels"][0].update(temperature=0.0), "temperatures .* above 0"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_calibration_that_cannot_be_is_refused_with_its_reason(copy, change, message):
    path = copy / "model.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    with pytest.raises(BundleInvalid, match=message):
        load_bundle(copy)


def test_a_domain_on_the_command_line_may_say_its_ages(tmp_path):
    source, ages = parse_domain(f"children:1-5,7-9={tmp_path}")
    assert (source.domain, source.folder, ages) == ("children", tmp_path, ((1.0, 5.0), (7.0, 9.0)))
    assert parse_domain(f"adults={tmp_path}")[1] == ()
    with pytest.raises(ValueError, match="write children:1-5=FOLDER"):
        parse_domain(f"adults:old={tmp_path}")


@pytest.mark.train
def test_forms_are_compared_on_patients_they_were_not_fitted_on():
    from model.demonstration.calibration_comparison import TAKEN, compare_forms

    random = np.random.default_rng(12)
    logits = random.normal(0, 2, (240, 2)).astype(np.float32)
    steep, flat = 1 / (1 + np.exp(-2 * logits[:, 0])), 1 / (1 + np.exp(-(0.2 * logits[:, 1] - 1)))
    targets = (random.random((240, 2)) < np.stack([steep, flat], 1)).astype(np.float32)
    found = compare_forms(answers(logits, targets, ["here"] * 240), LABELS)
    assert found["here"]["labels"] == list(LABELS)
    losses = {form: shown["log_loss"] for form, shown in found["here"]["forms"].items()}
    best = np.mean(
        [-(y * np.log(p) + (1 - y) * np.log(1 - p)) for p, y in ((steep, targets[:, 0]), (flat, targets[:, 1]))]
    )
    assert best < losses[TAKEN] < best + 0.05
    for worse in ("one slope for all labels", "bias a label, no slope", "isotonic"):
        assert losses[worse] > losses[TAKEN]
    assert compare_forms(answers(logits[:30], targets[:30], ["few"] * 30, patients=["a", "b"] * 15), LABELS) == {}
