"""`evaluate`, `model verify` and `model quantize` as commands, on a network that is read in a moment."""

from __future__ import annotations

import json
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tomli_w
from typer.testing import CliRunner

from model.bundle.bundle import Bundle, BundleInvalid
from model.bundle.manifest import CHECKSUM_KEY
from tests.model.small_bundle import noisy, write_images, write_small_bundle
from tests.peers.radiographs import sample
from worker.cli.app import app


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_small_bundle(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small DICOM images of ten patients, children and adults: dark ones, and bright ones with Pneumonia."""
    folder = tmp_path_factory.mktemp("headers")
    dataset = pydicom.dcmread(sample("RG1_UNCR"))
    dataset.Rows = dataset.Columns = 32
    dataset.PhotometricInterpretation, dataset.PatientBirthDate = "MONOCHROME2", ""
    for name in ("PixelPaddingValue", "VOILUTSequence", "WindowCenter", "WindowWidth", "ModalityLUTSequence"):
        dataset.pop(name, None)
    for number in range(40):
        patient, bright = number // 4, number % 2
        dataset.PatientID, dataset.PatientAge = f"patient {patient}", f"{(4, 50)[patient % 2]:03d}Y"
        dataset.PatientSex, dataset.ViewPosition = "MF"[patient % 2], ("PA", "AP")[number % 2]
        pixels = noisy(0.35 + 0.3 * bright, number)
        pixels[0, :2] = 0, 1  # the whole range, so that each is windowed alike
        dataset.PixelData = (pixels * 32767).astype(np.uint16).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        path = folder / ("Pneumonia" if bright else "normal") / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        dataset.save_as(path)
    return folder


def run(home: Path, *words: str | Path) -> tuple[int, Any]:
    done = CliRunner().invoke(app, [*map(str, words), "--home", str(home), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout)


def test_evaluate_knows_patient_age_sex_and_view_by_the_header(small: Bundle, headers: Path, tmp_path: Path) -> None:
    code, facts = run(tmp_path, "evaluate", small.folder, headers)
    assert code == 0
    assert (facts["images"], facts["patients"]) == (40, 10)
    assert {"age: 0-5 years", "age: 40-64 years", "sex: F", "sex: M", "view: AP", "view: PA"} <= set(facts["subgroups"])


def test_evaluate_counts_what_is_uncertain_as_it_is_told(small: Bundle, headers: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(headers) for path in headers.rglob("*.dcm"))
    rows = [f"{headers / name},{('0', '1', '-1')[index % 3]}" for index, name in enumerate(names)]
    table = tmp_path / "table.csv"
    table.write_text("path,Pneumonia\n" + "\n".join(rows) + "\n")
    known = {
        policy: run(tmp_path, "evaluate", small.folder, table, "--uncertain", policy)[1]["all"]["Pneumonia"]
        for policy in ("ignore", "one")
    }
    assert (known["ignore"]["images"], known["ignore"]["positives"]) == (27, 13)
    assert (known["one"]["images"], known["one"]["positives"]) == (40, 26)


@pytest.fixture
def copy(small: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small.folder, tmp_path / "copy"))


def test_seal_accepts_an_edited_threshold_and_says_what_holds_now(copy: Path, small: Bundle, tmp_path: Path) -> None:
    text = (copy / "model.toml").read_text()
    (copy / "model.toml").write_text(text.replace("threshold = 0.5", "threshold = 0.25"))
    with pytest.raises(BundleInvalid, match="cxr-triage model seal FOLDER"):
        run(tmp_path, "model", "show", copy)
    code, facts = run(tmp_path, "model", "seal", copy)
    assert (code, facts["digest"], facts["calls"]) == (0, small.digest, {"all": {"Pneumonia": 0.25}})
    assert run(tmp_path, "model", "show", copy)[1]["thresholds"] == {"Pneumonia": 0.25}


def test_a_model_without_a_card_is_shown(copy: Path, tmp_path: Path) -> None:
    (copy / "README.md").unlink()
    assert run(tmp_path, "model", "show", copy)[1]["card"] == ""
    assert "small 1 " in CliRunner().invoke(app, ["model", "show", str(copy)]).stdout


def test_a_card_moves_no_cursor(copy: Path) -> None:
    (copy / "README.md").write_text("# small\n\nfine\x1b[2Jgone\n")
    shown = CliRunner().invoke(app, ["model", "show", str(copy)])
    assert shown.exit_code == 0
    assert "\x1b[2J" not in shown.stdout


needs_training = pytest.mark.skipif(
    find_spec("tensorflow") is None or find_spec("nncf") is None, reason="the extra [train] is not installed"
)


@pytest.mark.train
@needs_training
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantize_says_what_was_gained_and_verify_holds_int8_against_the_weights(tmp_path: Path) -> None:
    before = write_small_bundle(tmp_path / "small", keras_slope=6.0)
    images = write_images(tmp_path / "images", 60)
    code, found = run(tmp_path, "model", "quantize", before.folder, "--data", images, "--out", tmp_path / "int8")
    assert (code, found["name"], found["digest"], found["judged_on"]) == (0, "small-int8", before.digest, 30)
    assert found["auroc_before"]["Pneumonia"] - found["auroc_after"]["Pneumonia"] <= 0.005
    code, facts = run(tmp_path, "model", "verify", tmp_path / "int8")
    assert (code, facts["precision"], facts["description_digest"]) == (0, "int8", "agrees")
    (keras,) = facts["engines"]
    assert (keras["engine"], keras["agrees"]) == ("keras", True)
    assert 0 < keras["probability_difference"] < 0.1
    code, facts = run(tmp_path, "model", "verify", before.folder)
    assert code == 0
    assert [(each["engine"], each["precision"]) for each in facts["engines"] if each["agrees"]][-1] == ("keras", "f32")


@pytest.mark.train
@needs_training
def test_verify_fails_where_the_compiled_network_is_not_that_of_the_weights(tmp_path: Path) -> None:
    other = write_small_bundle(tmp_path / "other", keras_slope=-6.0)
    code, facts = run(tmp_path, "model", "verify", other.folder)
    assert code == 1
    (found,) = [each for each in facts["engines"] if each["agrees"] is False]
    assert found["engine"] == "keras"
    assert "differs from the golden output of small" in found["says"]


def test_verify_says_that_a_description_is_under_no_digest(copy: Path, tmp_path: Path) -> None:
    table = tomllib.loads((copy / "model.toml").read_text())
    del table[CHECKSUM_KEY]
    (copy / "model.toml").write_text(tomli_w.dumps({**table, "format": 1}))
    assert run(tmp_path, "model", "verify", copy)[1]["description_digest"] == "none"


def test_a_broken_model_is_not_activated_and_the_active_one_stays(
    copy: Path, tmp_path: Path, bundle_folder: Path
) -> None:
    assert run(tmp_path, "model", "activate", bundle_folder)[0] == 0
    before = run(tmp_path, "model", "list")[1]["active"]
    (copy / "network.bin").write_bytes(b"tampered with")
    with pytest.raises(BundleInvalid, match=r"network\.bin was changed"):
        run(tmp_path, "model", "activate", copy)
    after = run(tmp_path, "model", "list")[1]
    assert after["active"] == before
    assert [model["name"] for model in after["models"] if model["active"]] == ["demonstration"]
