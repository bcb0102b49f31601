"""One analysis, claimed to stored: results once, reasons always, faults of the machine not blamed on the image."""

from __future__ import annotations

import json
import re
import shutil
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import func, select
from typer.testing import CliRunner

from db.analysis import lifecycle
from db.engine.session import DatabaseUnavailable
from db.model_registry.activation import active_models
from db.reasons import ReasonCode
from db.tables.analyses import Analysis, Finding, LogitMaps
from db.tables.delivery import Delivery, MadeObject
from db.views import ledger
from db.views.worklist import worklist
from dicom_io.header.instance_header import read_header
from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Received
from model.bundle.bundle import BundleInvalid, load_bundle
from model.explain.gradcam import GradCamMaps
from model.inference.predictor import Predictor
from model.publish.bundle_writer import renew_manifest_checksum
from worker.analysis import runner
from worker.analysis.runner import Analyst
from worker.cli.app import app
from worker.config.destinations import DicomDestination
from worker.installation import Site
from worker.intake.intake import Intake
from worker.model_registry import bundles, preprocessing
from worker.runtime.clock import now
from worker.storage.store import Stored, StoreUnavailable


@pytest.fixture
def sited(site: Site, bundle_folder: Path) -> Site:
    destination = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    site = Site(site.settings.model_copy(update={"destinations": (destination,)}))
    bundles.activate(site, str(bundle_folder))
    return site


def receive(site: Site, data: bytes) -> list[int]:
    queued: list[int] = []
    intake = Intake(site, lambda each: queued.append(each.id))
    received = Received(
        data=data,
        header=read_header(data),
        calling_ae="MODALITY",
        called_ae="CXRTRIAGE",
        address="127.0.0.1",
        association_id="1",
    )
    assert intake.receive(received) == Status.SUCCESS
    return queued


def count(site: Site, table: type) -> int:
    with site.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_bundle_calibrated_anew_is_read_with_at_once_and_is_the_one_that_is_active(
    sited: Site, bundle_folder: Path, images: Path, tmp_path: Path
) -> None:
    """It is the same model by its digest, and other thresholds: a running worker must not keep the former ones."""
    analyst = Analyst(sited.settings, sited.database, sited.store)
    digest = load_bundle(bundle_folder).digest
    before = analyst.reader(digest)
    stricter = shutil.copytree(bundle_folder, tmp_path / "stricter")
    text = (stricter / "model.toml").read_text(encoding="utf-8")
    text = text.replace('name = "demonstration"', 'name = "stricter"', 1)
    (stricter / "model.toml").write_text(re.sub(r"threshold = 0\.\d+", "threshold = 0.987", text), encoding="utf-8")
    assert renew_manifest_checksum(stricter).digest == digest
    bundles.activate(sited, str(stricter))
    assert set(analyst.reader(digest).bundle.thresholds.values()) == {0.987}
    assert set(before.bundle.thresholds.values()) != {0.987}
    listed = CliRunner().invoke(app, ["model", "list", "--json", "--home", str(sited.settings.home)])
    active = {each["name"]: each["active"] for each in json.loads(listed.stdout)["models"]}
    assert active == {"stricter": True, "demonstration": False}


def test_image_becomes_findings_maps_a_heatmap_and_an_outbox_row_and_all_of_it_once(sited: Site, images: Path) -> None:
    data = (images / "RG1_UNCR.dcm").read_bytes()
    (analysis_id,) = receive(sited, data)
    analyst = Analyst(sited.settings, sited.database, sited.store)
    assert analyst.analyse(analysis_id) == "done"
    assert analyst.analyse(analysis_id) == "not free"
    assert receive(sited, data) == []  # the same image again rings for nothing
    with sited.database.read() as session:
        analysis = session.get_one(Analysis, analysis_id)
        item = worklist(session)[0]
        maps = GradCamMaps.from_bytes(session.scalars(select(LogitMaps.data)).one())
        objects = session.scalars(select(MadeObject)).all()
    assert analysis.attempts == 1
    assert analysis.source_sha256
    assert item.state == "done"
    assert "age unknown" in item.flags
    assert len(item.findings) == len(maps.scales) == count(sited, Finding)
    positive = [finding.label for finding in item.findings if finding.positive]
    assert [made.label for made in objects] == positive or len(objects) == 1
    assert count(sited, Delivery) == len(objects)
    numbers = [dcmread(sited.store.path(made.uri)).InstanceNumber for made in objects]
    assert numbers == list(range(1, len(objects) + 1))
    for made in objects:
        facts = read_header(sited.store.path(made.uri))
        assert facts.sop_instance_uid == made.sop_instance_uid
        assert facts.study_instance_uid == item.study_instance_uid
        assert facts.patient_id == item.patient_id


def test_same_image_analysed_anew_gives_the_same_object_bytes(
    sited: Site, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (analysis_id,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    analyst = Analyst(sited.settings, sited.database, sited.store)
    stored: list[str] = []
    real_put = sited.store.put
    monkeypatch.setattr(sited.store, "put", lambda *what: stored.append(real_put(*what).sha256) or real_put(*what))
    real_complete = lifecycle.complete

    def power_cut(*_arguments: object) -> bool:
        raise DatabaseUnavailable("the database went away just before the commit")

    monkeypatch.setattr(lifecycle, "complete", power_cut)
    with pytest.raises(DatabaseUnavailable):
        analyst.analyse(analysis_id)
    assert count(sited, Finding) == count(sited, MadeObject) == 0
    monkeypatch.setattr(lifecycle, "complete", real_complete)
    assert analyst.analyse(analysis_id) == "done"
    half = len(stored) // 2
    assert half > 0
    assert stored[:half] == stored[half:]


def test_an_upgrade_reads_what_was_queued_before_it_once_and_as_what_it_makes(
    sited: Site, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = preprocessing.GRAYSCALE_VERSION
    (queued,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    (failed,) = receive(sited, _other_image(images))
    with sited.database.write() as session:
        former = session.get_one(Analysis, failed)  # as versions before this one ended it
        former.state, former.reason_code = "failed", ReasonCode.OTHER_VERSION
    old = Analyst(sited.settings, sited.database, sited.store)
    monkeypatch.setattr(preprocessing, "GRAYSCALE_VERSION", before + 1)
    new = Analyst(sited.settings, sited.database, sited.store)
    assert new.analyse(queued) == "done"
    assert new.analyse(queued) == "not free"
    assert new.analyse(failed) == "done"
    with sited.database.read() as session:
        (model,) = active_models(session).models
        rows = session.scalars(select(Analysis)).all()
        book = ledger.ledger(session, now())
    assert (book.done, book.failed, book.pending) == (2, 0, 0)
    assert {row.preprocessing_id for row in rows} == {model.preprocessing_id}
    assert model.preprocessing_id.endswith(f"+gray{before + 1}")

    # the version before, still running beside it, reads what it gets and leaves the new one's word alone
    (again,) = receive(sited, _other_image(images, 2))
    monkeypatch.setattr(preprocessing, "GRAYSCALE_VERSION", before)
    assert old.analyse(again) == "done"
    with sited.database.read() as session:
        assert session.get_one(Analysis, again).preprocessing_id.endswith(f"+gray{before}")
        assert active_models(session).models == (model,)


def test_truncated_pixels_fail_at_once_with_their_reason(sited: Site, images: Path) -> None:
    (analysis_id,) = receive(sited, _with_short_pixels(images / "RG1_UNCR.dcm"))
    assert Analyst(sited.settings, sited.database, sited.store).analyse(analysis_id) == "failed"
    with sited.database.read() as session:
        book = ledger.ledger(session, now())
    assert book.failed == 1
    assert "bytes" in book.unfinished[0].reason


def test_unforeseen_error_is_counted_kept_and_logged_without_its_text(
    sited: Site, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise ValueError("Doe^Jane 1970-01-01")

    monkeypatch.setattr(runner, "read_dicom", broken)
    (analysis_id,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    analyst = Analyst(sited.settings, sited.database, sited.store)
    assert [analyst.analyse(analysis_id) for _ in range(4)] == ["given back", "given back", "given back", "not free"]
    with sited.database.read() as session:
        book = ledger.ledger(session, now())
    assert book.unfinished[0].reason == "stopped after 3 attempts: unexpected ValueError"
    output = capsys.readouterr()
    assert "ValueError" in output.out + output.err
    assert "Doe" not in output.out + output.err


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_lost_file_fails_its_image_with_the_reason_until_the_same_bytes_come_again(
    sited: Site, images: Path, how: str
) -> None:
    (analysis_id,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    (file,) = sited.store.root.glob("*/*/*.dcm")
    whole = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:  # no result or identity out of damaged bytes
        patient = read_header(file).patient_id.encode()
        file.write_bytes(whole.replace(patient, b"X" * len(patient)))
        assert file.read_bytes() != whole
    analyst = Analyst(sited.settings, sited.database, sited.store)
    assert analyst.analyse(analysis_id) == "failed"
    assert analyst.analyse(analysis_id) == "not free"
    with sited.database.read() as session:
        (entry,) = ledger.ledger(session, now()).unfinished
        assert (entry.state, entry.reason_code) == ("failed", ReasonCode.STORED_FILE_LOST)
        assert how in entry.reason
        assert "send it again" in entry.reason
    assert count(sited, MadeObject) == 0
    receive(sited, whole)  # the store is mended by it
    with sited.database.read() as session:
        row = session.get_one(Analysis, analysis_id)
        assert (row.state, row.reason, row.attempts, row.enqueued_at) == ("pending", "", 0, None)
        assert worklist(session)[0].state == "pending"
    assert analyst.analyse(analysis_id) == "done"


def test_store_that_is_away_is_the_machines_fault_and_is_waited_for(sited: Site, images: Path) -> None:
    (analysis_id,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    away = sited.store.root.rename(sited.store.root.with_name("away"))
    analyst = Analyst(sited.settings, sited.database, sited.store)
    for _ in range(4):
        assert analyst.analyse(analysis_id) == "given back"
    away.rename(sited.store.root)
    assert analyst.analyse(analysis_id) == "done"


def test_broken_bundle_is_opened_now_and_then_told_once_and_its_images_wait_ever_longer(
    sited: Site, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    (second,) = receive(sited, _other_image(images))
    opened: list[Path] = []

    def broken(folder: Path, **_options: object) -> None:
        opened.append(folder)
        raise BundleInvalid(folder, "weights.keras was changed")

    monkeypatch.setattr(Predictor, "open", broken)
    analyst = Analyst(sited.settings, sited.database, sited.store)
    waits = []
    for _ in range(4):
        assert [analyst.analyse(each) for each in (first, second)] == ["given back"] * 2
        with sited.database.read() as session:
            row = session.get_one(Analysis, first)
            assert row.retry_at is not None
            waits.append(round((row.retry_at - now()).total_seconds()))
            assert (row.attempts, row.enqueued_at) == (0, None)
            assert "was changed" in row.reason
    assert waits == [5, 15, 60, 60]
    assert len(opened) == 1
    assert capsys.readouterr().err.count("not analysed") == 1


def test_lease_lost_before_the_analysis_is_given_back_is_reported_as_lost(
    sited: Site, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (analysis_id,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())

    def taken_away(*_address: str) -> Path:
        with sited.database.write() as session:
            assert lifecycle.release_dead(session, lambda _process: True, now()) == 1
        raise StoreUnavailable("store is not mounted")

    monkeypatch.setattr(sited.store, "whole", taken_away)
    assert Analyst(sited.settings, sited.database, sited.store).analyse(analysis_id) == "lease lost"
    with sited.database.read() as session:
        row = session.get_one(Analysis, analysis_id)
        assert (row.state, row.reason, row.attempts) == ("pending", "", 1)


def test_object_is_due_by_the_clock_that_finds_it_due(
    sited: Site, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL that is the server's: a worker whose clock runs ahead must not hold its heatmaps back."""
    (analysis_id,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    server = now() - timedelta(minutes=20)
    monkeypatch.setattr(runner, "database_time", lambda _session, _clock: server)
    assert Analyst(sited.settings, sited.database, sited.store).analyse(analysis_id) == "done"
    with sited.database.read() as session:
        assert set(session.scalars(select(Delivery.next_attempt_at))) == {server}
        assert session.get_one(Analysis, analysis_id).finished_at == server


def _other_image(images: Path, number: int = 1) -> bytes:
    dataset = dcmread(images / "RG1_UNCR.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _with_short_pixels(path: Path) -> bytes:
    dataset = dcmread(path)
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_object_whose_file_is_cleared_away_before_its_row_is_written_is_stored_anew(
    sited: Site, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (analysis_id,) = receive(sited, (images / "RG1_UNCR.dcm").read_bytes())
    put = sited.store.put

    def cleared(data: bytes, suffix: str) -> Stored:
        stored = put(data, suffix)
        sited.store.discard(stored.uri)
        monkeypatch.undo()
        return stored

    monkeypatch.setattr(sited.store, "put", cleared)
    assert Analyst(sited.settings, sited.database, sited.store).analyse(analysis_id) == "done"
    with sited.database.read() as session:
        for made in session.scalars(select(MadeObject)):
            assert sited.store.whole(made.uri, made.sha256)
