"""int8: it keeps two outputs and its closed form, is refused where it is worse, and its record says what it is."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from model.dataset import DatasetInvalid, Source, read_sources
from model.engine import check_against_golden, open_engine
from model.quantization import QuantizationRefused, Quantized, _accept, quantize
from model.reader import Reader

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FINE = Quantized(20, 20, {"X": 0.9}, {"X": 0.896}, 0.01, 0.05, 2.0, "f32", 0.5, 2.0)


def films(folder, number):
    """Films that are no radiographs, bright ones and dark ones, of as many patients."""
    chance = np.random.default_rng(4)
    for label, level in (("normal", 0), ("Pneumonia", 70)):
        (folder / label).mkdir(parents=True)
        for index in range(number // 2):
            pixels = cv2.GaussianBlur(chance.random((224, 224)).astype(np.float32), (31, 31), 0) * 180 + level
            cv2.imwrite(str(folder / label / f"{label}{index}.png"), np.clip(pixels, 0, 255).astype(np.uint8))
    return read_sources([Source(folder, "films")])


def test_int8_keeps_both_outputs_and_the_closed_form_and_says_what_it_is(demonstration, tmp_path, monkeypatch):
    pytest.importorskip("nncf", reason="NNCF is not installed (extra [train])")
    monkeypatch.setattr("model.quantization._accept", lambda found: None)  # these films are no radiographs
    made, found = quantize(demonstration, films(tmp_path / "films", 40), tmp_path / "int8")
    assert made.name == "demonstration-int8"
    assert made.digest == demonstration.digest
    assert (found.calibrated_on, found.judged_on) == (20, 20)
    assert found.speed > 0 and found.speed_over_f32 > 0
    assert found.size < 0.6  # of int8 weights, not f16 ones
    engine = open_engine(made)
    assert engine.precision == "int8"
    assert check_against_golden(engine, made)[0] < 1e-3
    assert made.golden.logits != pytest.approx(demonstration.golden.logits, abs=1e-6)
    output = engine.run(made.golden.tensors)
    head = made.head
    for logits, activations in zip(output.logits, output.activations, strict=True):
        assert head.logits(head.pooled(activations)) == pytest.approx(
            logits, abs=2e-3 * (1 + float(np.abs(logits).max()))
        )
    reading = Reader(made, engine).of_output(made.golden.tensors, output)[0]
    total = reading.maps.contribution(0).sum() * made.everyone.temperatures[0] + head.layers[-1].bias[0]
    logit = float(output.logits[0, 0])
    assert float(total) == pytest.approx(logit, abs=1e-2 * (1 + abs(logit)))
    with pytest.raises(QuantizationRefused, match="is int8 already"):
        quantize(made, [], tmp_path / "again")


def test_what_is_as_good_is_accepted():
    _accept(FINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auroc_after": {"X": 0.8949}}, r"AUROC drops by more than 0.005 on 20 images: X 0.9000 -> 0.8949"),
        ({"mean_move": 0.021}, r"move by 0.021 on average \(allowed 0.02\)"),
        ({"high_move": 0.11}, r"by 0.11 at the 99th percentile \(allowed 0.1\)"),
    ],
)
def test_what_is_worse_is_refused_with_the_figures(change, message):
    with pytest.raises(QuantizationRefused, match=message):
        _accept(replace(FINE, **change))


def test_labels_shown_too_seldom_are_no_ground_to_judge_by(demonstration, tmp_path, monkeypatch):
    monkeypatch.setattr("model.quantization._write_network", lambda *anything: None)  # it stays what it was
    samples = films(tmp_path / "films", 60)
    rare = [sample for sample in samples if not sample.labels["Pneumonia"]] + samples[-8:]
    with pytest.raises(QuantizationRefused, match="no label of the model is present in at least 10 of the 20 images"):
        quantize(demonstration, [*rare, *rare[:2]], tmp_path / "int8")


def test_too_few_images_are_refused_and_nothing_is_left_behind(demonstration, tmp_path):
    with pytest.raises(DatasetInvalid, match="10 images are too few; at least 40"):
        quantize(demonstration, films(tmp_path / "films", 10), tmp_path / "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["films"]
