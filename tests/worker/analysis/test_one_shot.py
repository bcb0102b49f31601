"""`analyse` on real images: read by the real model, or refused with a reason; no input stops the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from db.model_registry.scope import ActiveModels
from dicom_io.gate.decision import AGE_CONTRADICTORY, GateRules
from model.bundle.bundle import BundleInvalid
from model.inference.predictor import OUTSIDE, Predictor
from tests.peers import poison
from worker.analysis import one_shot
from worker.analysis.model_selection import Readers
from worker.analysis.one_shot import analyse_files, analyse_isolated, reading_inputs
from worker.cli.app import app
from worker.config.settings import Reading
from worker.runtime.clock import now
from worker.runtime.isolated_process import Handler

RULES = GateRules(small_images="flag")


def analyse(reader: Predictor, *paths: Path, out: Path | None = None, **options: bool) -> list[dict[str, Any]]:
    return list(
        analyse_files(
            list(paths), lambda _age, _view: reader, RULES, out, lambda _done, _total: None, clock=now, **options
        )
    )


def test_adult_chest_is_read_with_its_flag_and_the_extremity_refused_with_its_reason(
    reader: Predictor, images: Path
) -> None:
    chest, extremity = analyse(reader, images / "RG1_UNCR.dcm", images / "RG3_UNCR.dcm")
    assert chest["status"] == "done"
    assert "age unknown" in chest["flags"]
    assert [finding["label"] for finding in chest["findings"]] == list(reader.bundle.label_names)
    assert all(0 <= finding["probability"] <= 1 for finding in chest["findings"])
    assert extremity["status"] == "not_applicable"
    assert extremity["reason"] == "BodyPartExamined is EXTREMITY: not a chest"
    assert extremity["findings"] == []


@pytest.mark.parametrize(("born", "outside"), [("20190101", True), ("19740101", False)])
def test_age_that_the_birth_date_contradicts_takes_a_image_out_of_the_training_domain(
    reader: Predictor, images: Path, tmp_path: Path, born: str, outside: bool
) -> None:
    image = dcmread(images / "RG1_UNCR.dcm")
    image.PatientAge, image.PatientBirthDate, image.AcquisitionDate = "050Y", born, "20240601"
    image.save_as(tmp_path / "image.dcm")
    (found,) = analyse(reader, tmp_path / "image.dcm")
    assert found["status"] == "done"
    assert (found["flags"][:2] == [OUTSIDE, AGE_CONTRADICTORY]) is outside
    assert (OUTSIDE in found["flags"]) is outside


@pytest.mark.parametrize("view", ["AP SUPINE", "PORTABLE", "A-P"])
def test_bedside_image_is_inside_the_training_domain(
    reader: Predictor, images: Path, tmp_path: Path, view: str
) -> None:
    image = dcmread(images / "RG1_UNCR.dcm")
    image.ViewPosition, image.PatientAge, image.PatientBirthDate = view, "050Y", ""
    image.save_as(tmp_path / "image.dcm")
    (found,) = analyse(reader, tmp_path / "image.dcm")
    assert OUTSIDE not in found["flags"]


LONG_UID = "1.2." + "3" * 61  # 65 characters


@pytest.mark.parametrize(
    ("keyword", "uid", "problem"),
    [
        ("StudyInstanceUID", LONG_UID, "StudyInstanceUID has 65 characters, over 64"),
        ("SOPInstanceUID", LONG_UID, "SOPInstanceUID has 65 characters, over 64"),
        ("StudyInstanceUID", "1.2..A", "StudyInstanceUID is not a UID"),
        ("StudyInstanceUID", "", "StudyInstanceUID is missing"),
    ],
)
def test_image_whose_uids_allow_no_objects_is_read_and_says_so(
    reader: Predictor, images: Path, tmp_path: Path, keyword: str, uid: str, problem: str
) -> None:
    image = dcmread(images / "RG1_J2KR.dcm")
    image[keyword].value = uid
    image.save_as(tmp_path / "image.dcm")
    (done,) = analyse(reader, tmp_path / "image.dcm", out=tmp_path / "out")
    assert (done["status"], done["reason"]) == ("done", "")
    assert f"no DICOM objects: {problem}" in done["flags"]
    assert {made["kind"] for made in done["objects"]} == {"overlay"}


def test_lossless_coding_of_the_same_image_gives_the_same_numbers(reader: Predictor, images: Path) -> None:
    plain, coded = analyse(reader, images / "RG1_UNCR.dcm", images / "RG1_J2KR.dcm", reduced_resolution=False)
    assert plain["findings"] == coded["findings"]


def test_picture_of_a_image_reads_like_the_image_and_says_what_it_does_not_know(
    reader: Predictor, images: Path, tmp_path: Path
) -> None:
    from dicom_io.pixels.grayscale import read_grayscale

    gray = read_grayscale(images / "RG1_UNCR.dcm").image
    picture = tmp_path / "image.png"
    Image.fromarray((gray * 65535).round().astype(np.uint16)).save(picture)
    from_dicom, from_png = analyse(reader, images / "RG1_UNCR.dcm", picture)
    assert {"age unknown", "view unknown"} <= set(from_png["flags"])
    for one, other in zip(from_dicom["findings"], from_png["findings"], strict=True):
        assert one["probability"] == pytest.approx(
            other["probability"], abs=0.01
        )  # bf16 turns rounding to 16 bits into thousandths


def test_bad_inputs_end_each_with_its_reason_and_the_good_one_is_read(
    reader: Predictor, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("this is no image", encoding="utf-8")
    (tmp_path / "b.dcm").write_bytes((images / "RG1_UNCR.dcm").read_bytes()[:100_000])
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "d.dcm").write_bytes(b"")
    shutil.copy(images / "RG1_UNCR.dcm", tmp_path / "e.dcm")
    results = {Path(result["source"]).name: result for result in analyse(reader, tmp_path)}
    assert {name: result["status"] for name, result in results.items()} == {
        "a.txt": "failed",
        "b.dcm": "failed",
        "c.png": "failed",
        "d.dcm": "failed",
        "e.dcm": "done",
    }
    assert all(result["reason"] for name, result in results.items() if name != "e.dcm")


def test_objects_are_an_overlay_and_a_heatmap_a_label_explained(
    reader: Predictor, images: Path, tmp_path: Path
) -> None:
    (result,) = analyse(reader, images / "RG1_UNCR.dcm", out=tmp_path)
    explained = [finding["label"] for finding in result["findings"] if finding["positive"]]
    for kind in ("overlay", "heatmap"):
        made = [entry for entry in result["objects"] if entry["kind"] == kind]
        if explained:
            assert [entry["label"] for entry in made] == explained
        assert len(made) >= 1
        assert all(Path(entry["path"]).is_file() for entry in made)
    uids = [entry["sop_instance_uid"] for entry in result["objects"] if entry["kind"] == "heatmap"]
    assert len(set(uids)) == len(uids)
    (again,) = analyse(reader, images / "RG1_UNCR.dcm", out=tmp_path / "again")
    assert not set(uids) & {entry["sop_instance_uid"] for entry in again["objects"]}  # no UID for two contents


def heatmaps(reader: Predictor, images: Path, out: Path) -> list[Dataset]:
    """The heatmaps of two images of one study, made at 22:30 UTC on 4 March, where the site is in Auckland."""
    out.mkdir()
    image = dcmread(images / "RG1_UNCR.dcm")
    del image.TimezoneOffsetFromUTC
    sources = [out / "1.dcm", out / "2.dcm"]
    for source in sources:
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{source.stem}"
        image.save_as(source)
    results = analyse_files(
        sources,
        lambda _age, _view: reader,
        RULES,
        out,
        lambda _done, _total: None,
        clock=lambda: datetime(2026, 3, 4, 22, 30, tzinfo=UTC),
        zone=ZoneInfo("Pacific/Auckland"),
    )
    made = [each for result in results for each in result["objects"] if each["kind"] == "heatmap"]
    return [dcmread(each["path"]) for each in made]


def test_heatmaps_are_numbered_in_their_series_and_dated_in_the_zone_of_the_site(
    reader: Predictor, images: Path, tmp_path: Path
) -> None:
    made = heatmaps(reader, images, tmp_path / "out")
    assert [each.InstanceNumber for each in made] == list(range(1, len(made) + 1))
    assert len({each.SeriesInstanceUID for each in made}) == 1
    assert {(each.ContentDate, each.ContentTime) for each in made} == {("20260305", "113000.000000")}


def test_copy_under_another_name_and_int8_copy_have_a_series_of_their_own(
    reader: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot.uuid, "uuid4", lambda: UUID(int=1))  # one installation
    bundle = reader.bundle
    renamed = replace(bundle, name="renamed")
    int8 = replace(bundle, description={**bundle.description, "compiled": {"precision": "int8"}})
    series: dict[str, set[tuple[object, ...]]] = {}
    for each in (bundle, renamed, int8):
        reader.bundle = each
        try:
            for made in heatmaps(reader, images, tmp_path / str(len(series))):
                said = (made.SeriesDescription, *made.SoftwareVersions, made.SeriesNumber)
                series.setdefault(made.SeriesInstanceUID, set()).add(said)
        finally:
            reader.bundle = bundle
    assert len(series) == 3
    assert all(len(said) == 1 for said in series.values())


def test_command_prints_the_names_of_the_contract(images: Path, bundle_folder: Path, tmp_path: Path) -> None:
    words = ["analyse", str(images / "RG1_UNCR.dcm"), "--model", str(bundle_folder), "--home", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert set(facts["model"]) == {"name", "digest", "preprocessing"}
    expected = "source sop_instance_uid study_instance_uid status reason flags model findings objects"
    assert set(facts["results"][0]) == set(expected.split())
    assert set(facts["results"][0]["findings"][0]) == {"label", "probability", "threshold", "positive"}
    assert not any(tmp_path.iterdir())  # one-shot leaves nothing behind in the home folder


def test_command_exits_with_1_when_an_input_failed_and_2_when_there_is_none(
    bundle_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("no image", encoding="utf-8")
    words = ["--model", str(bundle_folder), "--home", str(tmp_path / "home")]
    assert CliRunner().invoke(app, ["analyse", str(tmp_path / "a.txt"), *words]).exit_code == 1
    assert CliRunner().invoke(app, ["analyse", str(tmp_path / "none.dcm"), *words]).exit_code == 2


def poisoned(begin: Callable[[], Handler]) -> Handler:
    poison.install()
    return begin()


def test_a_decoder_that_crashes_hangs_or_raises_costs_one_file_of_the_folder(
    bundle_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot, "ANALYSIS_TIME_LIMIT", 4)
    for name, rows in (("a", poison.CRASHES), ("b", poison.HANGS), ("c", poison.RAISES)):
        image = dcmread(images / "RG1_UNCR.dcm")
        image.Rows = rows
        image.save_as(tmp_path / f"{name}.dcm")
    shutil.copy(images / "RG1_UNCR.dcm", tmp_path / "d.dcm")
    readers = partial(Readers, Reading(), ActiveModels(), bundle_folder)
    begin = partial(reading_inputs, readers, RULES, None, clock=now, reduced_resolution=True)
    results = list(analyse_isolated([tmp_path], partial(poisoned, begin), "openvino", lambda _done, _total: None))
    assert [Path(result["source"]).name for result in results] == ["a.dcm", "b.dcm", "c.dcm", "d.dcm"]
    assert [result["status"] for result in results] == ["failed", "failed", "failed", "done"]
    reasons = [result["reason"] for result in results]
    assert reasons[0] == "reading it failed: its process died: signal 11 (SIGSEGV)"
    assert reasons[1] == "reading it failed: it did not end within 4 s and was stopped"
    assert reasons[2].startswith("unexpected KeyError at poison.py:")
    assert "Doe" not in reasons[2]


def test_what_cannot_be_written_is_that_files_result(reader: Predictor, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    (result,) = analyse(reader, images / "RG1_UNCR.dcm", out=tmp_path / "out")
    assert result["status"] == "failed"
    assert result["reason"].startswith("read, but its objects cannot be written: ")


def test_a_broken_bundle_is_said_by_the_command_and_not_by_every_file(
    bundle_folder: Path, images: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    (broken / "golden.npz").write_bytes(b"")
    words = ["analyse", str(images / "RG1_UNCR.dcm"), "--model", str(broken), "--home", str(tmp_path / "home")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, BundleInvalid)
    assert broken.name in str(done.exception)
