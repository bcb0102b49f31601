"""int8: it keeps two outputs and its closed form, is refused where it is worse, and its record says what it is."""

from dataclasses import replace

import numpy as np
import pytest

from model.dataset.sources import DatasetInvalid, Source, read_sources
from model.engine.golden_check import check_against_golden
from model.engine.opening import open_engine
from model.inference.predictor import Predictor
from model.quantize.acceptance import QuantizationComparison, QuantizationRefused, check_accepted
from model.quantize.int8 import quantize
from tests.model.small_bundle import write_images, write_small_bundle

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FINE = QuantizationComparison(
    calibrated_on=20,
    judged_on=20,
    auroc_before={"X": 0.9},
    auroc_after={"X": 0.896},
    mean_move=0.01,
    high_move=0.05,
    speed=2.0,
    precision_before="f32",
    size=0.5,
    speed_over_f32=2.0,
    auroc_change={"X": (-0.02, 0.001)},
    calls={"X": (20, 1, 1), "Y": (0, 0, 0)},
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_sources([Source(write_images(tmp_path_factory.mktemp("images") / "images", 60), "images")])


@pytest.fixture(scope="module")
def quantized(tmp_path_factory, samples):
    """A bundle, and its copy in int8 with what was measured of it."""
    pytest.importorskip("nncf", reason="NNCF is not installed (extra [train])")
    folder = tmp_path_factory.mktemp("quantized")
    before = write_small_bundle(folder / "before", reference=48)
    return before, *quantize(before, samples, folder / "int8")


def test_int8_that_is_as_good_is_accepted_and_says_what_it_is(quantized):
    before, made, found = quantized
    assert made.name == "small-int8"
    assert made.digest == before.digest
    assert (found.calibrated_on, found.judged_on) == (30, 30)
    assert found.auroc_after == {"Pneumonia": pytest.approx(found.auroc_before["Pneumonia"], abs=0.005)}
    assert 0 < found.mean_move <= found.high_move < 0.1
    assert found.out_of_distribution_changed <= 0.05
    assert found.speed > 0 and found.speed_over_f32 > 0
    assert found.size < 0.7  # of int8 weights, the first layer's left out
    assert {path.name for path in made.folder.parent.iterdir()} == {"before", "int8"}
    table = found.as_table()
    assert table["mean_move"] == round(found.mean_move, 4)
    card, of_before = (bundle.card_path.read_text(encoding="utf-8") for bundle in (made, before))
    assert card.startswith("# small-int8 ")
    assert card.endswith(of_before)
    assert f"| Pneumonia | {found.auroc_before['Pneumonia']:.4f} | {found.auroc_after['Pneumonia']:.4f} |" in card
    assert "30 images set the ranges; 30 others judged, of other patients; whether the network was trained" in card
    low, high = found.auroc_change["Pneumonia"]
    assert low <= found.auroc_after["Pneumonia"] - found.auroc_before["Pneumonia"] <= high
    positive, lost, gained = found.calls["Pneumonia"]
    assert f"| Pneumonia | {positive} | {lost} | {gained} |" in card
    assert f"{found.speed:.2f} times as fast as {found.precision_before}" in card


def test_int8_keeps_both_outputs_and_the_closed_form(quantized):
    before, made, _ = quantized
    engine = open_engine(made)
    assert engine.precision == "int8"
    assert check_against_golden(engine, made)[0] < 1e-3
    assert made.golden.logits != pytest.approx(before.golden.logits, abs=1e-6)
    output = engine.run(made.golden.tensors)
    head = made.head
    for logits, activations in zip(output.logits, output.activations, strict=True):
        assert head.logits(head.pooled(activations)) == pytest.approx(
            logits, abs=2e-3 * (1 + float(np.abs(logits).max()))
        )
    result = Predictor(made, engine).results_of(made.golden.tensors, output)[0]
    total = result.maps.contribution(0).sum() * made.everyone.temperatures[0] + head.layers[-1].bias[0]
    logit = float(output.logits[0, 0])
    assert float(total) == pytest.approx(logit, abs=1e-2 * (1 + abs(logit)))


def test_what_is_int8_already_is_refused(quantized, tmp_path):
    with pytest.raises(QuantizationRefused, match="is int8 already"):
        quantize(quantized[1], [], tmp_path / "again")


def test_int8_that_no_longer_sees_the_finding_is_refused_and_nothing_is_left_behind(samples, tmp_path):
    """One channel of a feature map is so large that eight bits leave nothing of the others."""
    pytest.importorskip("nncf", reason="NNCF is not installed (extra [train])")
    before = write_small_bundle(tmp_path / "loud", loud=3000.0)
    with pytest.raises(QuantizationRefused, match=r"AUROC drops by more than .* on 30 images: Pneumonia 1\.0000 -> 0"):
        quantize(before, samples, tmp_path / "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["loud"]


@pytest.mark.parametrize("after", [0.896, 0.895])
def test_what_drops_by_no_more_than_is_allowed_is_accepted(after):
    check_accepted(replace(FINE, auroc_after={"X": after}))
    check_accepted(replace(FINE, auroc_before={"X": after + 0.055}, auroc_after={"X": after + 0.05}))
    check_accepted(replace(FINE, auroc_before={"X": 0.95}, auroc_after={"X": 0.945}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auroc_after": {"X": 0.8949}}, r"AUROC drops by more than 0.005 on 20 images: X 0.9000 -> 0.8949"),
        ({"mean_move": 0.021}, r"move by 0.021 on average \(allowed 0.02\)"),
        (
            {"out_of_distribution_changed": 0.06},
            r"for 6\.0% of the images the out-of-distribution flag .* \(allowed 5%\)",
        ),
        ({"high_move": 0.11}, r"by 0.11 at the 99th percentile \(allowed 0.1\)"),
        ({"auroc_change": {"X": (-0.021, 0.0)}}, r"leave it open whether AUROC drops by more than 0.02.*X -0\.0210"),
        ({"calls": {"X": (20, 2, 0)}}, r"more than 5% of the positive calls.*X: 2 lost and 0 added of 20"),
        ({"calls": {"X": (40, 0, 3), "Y": (400, 0, 0)}}, r"20 images: X: 0 lost and 3 added of 40$"),
        ({"calls": {"X": (5, 1, 0), "Y": (6, 0, 0)}}, r"all labels: 1 lost and 0 added of 11$"),
    ],
)
def test_what_is_worse_is_refused_with_the_figures(change, message):
    with pytest.raises(QuantizationRefused, match=message):
        check_accepted(replace(FINE, **change))


def test_a_drop_is_judged_as_it_is_and_not_as_it_is_printed():
    with pytest.raises(QuantizationRefused, match="AUROC drops"):
        check_accepted(replace(FINE, auroc_before={"X": 0.90004}, auroc_after={"X": 0.895}))


def test_a_label_with_too_few_positive_images_is_refused(small, samples, tmp_path):
    pytest.importorskip("nncf", reason="NNCF is not installed (extra [train])")
    rare = [sample for sample in samples if not sample.labels["Pneumonia"]] + samples[-12:]
    with pytest.raises(QuantizationRefused, match="no label of the model is present in at least 10 of the 21 images"):
        quantize(small, rare, tmp_path / "int8")


def test_too_few_images_are_refused_and_nothing_is_left_behind(small, samples, tmp_path):
    with pytest.raises(DatasetInvalid, match="10 images are too few: 20 are needed to set the ranges, and 20 of other"):
        quantize(small, samples[:10], tmp_path / "int8")
    assert list(tmp_path.iterdir()) == []
