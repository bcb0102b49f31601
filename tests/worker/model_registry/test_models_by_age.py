"""Two bundles are active, chosen by age or view: each image is read by its own, on every face."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from typer.testing import CliRunner

from db.model_registry.activation import ScopeTaken, active_models
from db.model_registry.scope import ModelScope
from db.records import Queued
from db.tables.analyses import Analysis
from dicom_io.header.instance_header import read_header
from dicom_io.receive.listener import Received
from model.bundle.bundle import HEAD_FILE, WEIGHTS_FILE, describe_head, load_bundle, model_digest
from model.publish.bundle_writer import renew_manifest_checksum
from worker.analysis.runner import Analyst
from worker.cli.app import app
from worker.installation import Site
from worker.intake.intake import Intake
from worker.model_registry import bundles
from worker.monitoring.health import health_facts
from worker.web.app import make_web
from worker.worklist.listing import worklist_facts


@pytest.fixture(scope="session")
def second_bundle(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network behind another geometry, which is another model."""
    folder = tmp_path_factory.mktemp("models") / "second"
    shutil.copytree(bundle_folder, folder)
    first = load_bundle(bundle_folder)
    text = (folder / "model.toml").read_text(encoding="utf-8")
    files, head = tomllib.loads(text)["files"], tomllib.loads(text)["head"]
    preprocessing = replace(first.preprocessing, geometry="pad")
    described = describe_head(first.head, head["explanation_layer"])
    digest = model_digest(files[WEIGHTS_FILE], first.label_names, described, files[HEAD_FILE], preprocessing)
    text = text.replace(first.digest, digest).replace(f'name = "{first.name}"', 'name = "second"', 1)
    (folder / "model.toml").write_text(text.replace('geometry = "squash"', 'geometry = "pad"'), encoding="utf-8")
    assert renew_manifest_checksum(folder).digest == digest
    return folder


def image(images: Path, number: int, age: str, view: str = "PA") -> bytes:
    dataset = pydicom.dcmread(images / "RG1_UNCR.dcm")
    dataset.PatientAge, dataset.PatientBirthDate, dataset.ViewPosition = age, "", view
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    dataset.StudyInstanceUID = f"1.2.{number}"
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def run(site: Site, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--home", str(site.settings.home)])
    return done.exit_code, done.output


def test_each_image_is_read_by_the_model_of_its_age(
    site: Site, images: Path, bundle_folder: Path, second_bundle: Path
) -> None:
    bundles.activate(site, str(bundle_folder))
    assert run(site, "model", "activate", str(second_bundle), "--ages", "0-17")[0] == 0
    queued: list[int] = []
    intake = Intake(site, lambda each: queued.append(each.id))
    for number, age in ((1, "004Y"), (2, "044Y"), (3, "")):
        data = image(images, number, age)
        intake.receive(Received(data, read_header(data), "MODALITY", "CXRTRIAGE", "127.0.0.1", "1"))
    analyst = Analyst(site.settings, site.database, site.store)
    assert [analyst.analyse(each) for each in queued] == ["done"] * 3
    with site.database.read() as session:
        names = session.scalars(select(Analysis.model_name).order_by(Analysis.id)).all()
    assert names == ["second", "demonstration", "demonstration"]
    by_study = {item["study_instance_uid"]: item["model"] for item in worklist_facts(site)["items"]}
    assert by_study == {"1.2.1": "second", "1.2.2": "demonstration", "1.2.3": "demonstration"}
    browser = TestClient(make_web(site), base_url="http://127.0.0.1")
    system = browser.get("/system").text
    assert "scope: 0-17 years, any view" in system
    assert "scope: everything else" in system
    for path in ("/", "/ledger", "/docs", "/studies/1.2.1"):
        assert browser.get(path).status_code == 200, path
    assert 'reads="0-17 years, any view"' in browser.get("/metrics").text
    table = {entry["name"]: entry["reads"] for entry in health_facts(site)["models"]}
    assert table == {"demonstration": "everything else", "second": "0-17 years, any view"}
    for words in (("model", "list"), ("status",)):
        assert "0-17 years, any view" in run(site, *words)[1], words


def test_each_image_is_read_by_the_model_of_its_view(
    site: Site, images: Path, bundle_folder: Path, second_bundle: Path, tmp_path: Path
) -> None:
    bundles.activate(site, str(bundle_folder))
    assert run(site, "model", "activate", str(second_bundle), "--views", "AP", "--ages", "18-90")[0] == 0
    analyst = Analyst(site.settings, site.database, site.store)
    names, shown = [], []
    for number, (age, view) in enumerate((("044Y", "AP"), ("044Y", "PA"), ("004Y", "AP"), ("044Y", "")), 1):
        data, queued = image(images, number, age, view), list[Queued]()
        intake = Intake(site, queued.append)
        intake.receive(Received(data, read_header(data), "MODALITY", "CXRTRIAGE", "127.0.0.1", "1"))
        assert analyst.analyse(queued[0].id) == "done"
        with site.database.read() as session:
            names.append(session.get_one(Analysis, queued[0].id).model_name)
        (tmp_path / "image.dcm").write_bytes(data)
        shown.append(json.loads(run(site, "analyse", str(tmp_path / "image.dcm"), "--json")[1])["results"][0]["model"])
    assert names == ["second", "demonstration", "demonstration", "demonstration"]
    assert [each["name"] for each in shown] == names
    assert "18-90 years, AP" in run(site, "status")[1]


def test_one_shot_chooses_by_age_unless_a_model_is_named(
    site: Site, images: Path, bundle_folder: Path, second_bundle: Path, tmp_path: Path
) -> None:
    bundles.activate(site, str(bundle_folder))
    run(site, "model", "activate", str(second_bundle), "--ages", "0-17")
    for number, age in ((1, "004Y"), (2, "044Y")):
        (tmp_path / f"{number}.dcm").write_bytes(image(images, number, age))
    paths = [str(tmp_path / "1.dcm"), str(tmp_path / "2.dcm")]
    _code, text = run(site, "analyse", *paths, "--json")
    facts = json.loads(text)
    assert [result["model"]["name"] for result in facts["results"]] == ["second", "demonstration"]
    assert facts["model"]["name"] == "demonstration"
    _code, text = run(site, "analyse", *paths)
    assert "model second" in " ".join(text.split())
    _code, text = run(site, "analyse", *paths, "--model", "second", "--json")
    assert [result["model"]["name"] for result in json.loads(text)["results"]] == ["second", "second"]
    run(site, "model", "deactivate", "demonstration")
    _code, text = run(site, "analyse", *paths, "--json")
    (child, adult) = json.loads(text)["results"]
    assert (child["status"], adult["status"]) == ("done", "not_applicable")
    assert adult["reason"] == "no active model reads age 44, view PA (second reads 0-17 years, any view)"
    explained = run(site, "explain", paths[1])[1]
    assert "no active model reads age 44" in explained


def test_overlap_and_wrong_ages_are_told_and_change_nothing(
    site: Site, bundle_folder: Path, second_bundle: Path
) -> None:
    assert run(site, "model", "activate", str(bundle_folder), "--ages", "0-17")[0] == 0
    with pytest.raises(ScopeTaken, match=r"demonstration .* reads 0-17 years.*--replace"):
        bundles.activate(site, str(second_bundle), ModelScope(((10, 30),)))
    for words in (("--ages", "17-3"), ("--ages", "0-131"), ("--ages", ""), ("--ages", "x"), ("--views", "LL")):
        assert run(site, "model", "activate", str(second_bundle), *words)[0] == 2, words
    with site.database.read() as session:
        active = active_models(session)
    assert [entry.model.name for entry in active.entries] == ["demonstration"]
    assert active.default is None


def test_bundle_that_is_gone_is_not_ready(site: Site, broker: None, second_bundle: Path) -> None:
    bundle = bundles.activate(site, str(second_bundle))
    assert health_facts(site)["ready"], health_facts(site)
    shutil.rmtree(bundle.folder)
    facts = health_facts(site)
    assert not facts["ready"]
    assert f"bundle folder missing, so images in its scope wait: second ({bundle.folder})" in facts["model_note"]
    browser = TestClient(make_web(site), base_url="http://127.0.0.1")
    assert browser.get("/readyz").status_code == 503
    assert "bundle folder missing" in browser.get("/system").text


def test_version_is_printed() -> None:
    from worker import __version__

    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout.strip()) == (0, f"cxr-triage {__version__}")
