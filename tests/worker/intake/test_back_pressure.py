"""Above a backlog, or below a floor of free space, senders are told to come back later, and it ends by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select, update

from db.engine.session import Database
from db.model_registry import activation
from db.tables.analyses import Analysis
from db.tables.audit import Rejection
from db.tables.studies import Instance
from db.views.ledger_details import ledger_details
from dicom_io.network.status_codes import Status
from tests.db.conftest import MODEL, NOON
from tests.worker.intake.test_intake import received
from worker.config.settings import IntakeSettings, Settings, Storage
from worker.doctor.check_result import Examined
from worker.doctor.storage import space
from worker.installation import Site
from worker.intake import back_pressure
from worker.intake.back_pressure import Limits
from worker.intake.intake import Intake
from worker.monitoring.health import health_facts
from worker.monitoring.prometheus import SiteCollector
from worker.runtime.clock import now
from worker.web.app import make_web


def limited(site: Site, *, backlog: int = 0, free: float = 0.0) -> Settings:
    changes: dict[str, Any] = {
        "intake": IntakeSettings(maximum_backlog=backlog),
        "storage": Storage(home=site.settings.home, minimum_free_gigabytes=free),
    }
    return site.settings.model_copy(update=changes)


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    asked: list[str] = []

    def note(_c: object, _u: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


@pytest.fixture
def with_model(site: Site) -> Site:
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
    return site


def image(images: Path, number: int) -> Any:  # noqa: ANN401 - Received
    return received(images / "RG1_UNCR.dcm", SOPInstanceUID=f"1.2.3.{number}")


def test_image_beyond_the_backlog_is_refused_and_taken_when_one_was_read(with_model: Site, images: Path) -> None:
    site, clock = with_model, [0.0]
    limits = Limits(limited(site, backlog=2), site.database, lambda: 10**12, lambda: clock[0])
    intake = Intake(site, lambda _id: None, limits)
    statuses = [intake.receive(image(images, number)) for number in range(4)]
    assert statuses == [Status.SUCCESS, Status.SUCCESS, Status.OUT_OF_RESOURCES, Status.OUT_OF_RESOURCES]
    with site.database.read() as session:
        (refused,) = ledger_details(session).rejections
        assert len(session.scalars(select(Instance)).all()) == 2
    assert (refused.number, refused.status) == (2, Status.OUT_OF_RESOURCES)
    assert "2 images or more wait for analysis ([intake] maximum_backlog)" in refused.reason
    with site.database.write() as session:
        first = session.scalars(select(Analysis.id).order_by(Analysis.id)).first()
        session.execute(update(Analysis).where(Analysis.id == first).values(state="done"))
    assert intake.receive(image(images, 2)) == Status.OUT_OF_RESOURCES, "the count of a moment ago still holds"
    clock[0] += 60
    assert intake.receive(image(images, 2)) == Status.SUCCESS


def test_archive_and_finished_images_are_no_backlog(with_model: Site, images: Path) -> None:
    site = with_model
    intake = Intake(Site(limited(site, backlog=2)), lambda _id: None)
    assert intake.receive(image(images, 1)) == Status.SUCCESS
    with site.database.write() as session:
        session.execute(update(Instance).values(origin="archive"))
    for number in (2, 3):
        fresh = Limits(limited(site, backlog=2), site.database, lambda: 10**12)
        assert fresh.pressure() == ""
        assert Intake(site, lambda _id: None, fresh).receive(image(images, number)) == Status.SUCCESS
    assert "wait for analysis" in Limits(limited(site, backlog=2), site.database, lambda: 10**12).pressure()


def test_backlog_is_counted_once_a_second_at_most_and_no_further_than_the_limit(with_model: Site) -> None:
    site, clock = with_model, [0.0]
    limits = Limits(limited(site, backlog=5), site.database, lambda: 10**12, lambda: clock[0])
    with statements(site.database) as asked:
        for _ in range(100):
            assert limits.pressure() == ""
        counted = [statement for statement in asked if "count(" in statement]
    assert len(counted) == 1
    assert "LIMIT" in counted[0]


def test_while_one_thread_counts_the_others_go_by_the_last_count(
    with_model: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, clock = with_model, [0.0]
    limits = Limits(limited(site, backlog=3), site.database, lambda: 10**12, lambda: clock[0])
    assert limits.pressure() == ""
    limits.took()
    counts, go_on = threading.Event(), threading.Event()

    def slow(_session: object, _most: int) -> int:
        counts.set()
        assert go_on.wait(60)
        return 1

    monkeypatch.setattr(back_pressure, "backlog", slow)
    clock[0] += 60
    with ThreadPoolExecutor(3) as threads:
        counting = threads.submit(limits.pressure)
        assert counts.wait(60)
        try:
            assert threads.submit(limits.pressure).result(10) == ""
            threads.submit(limits.took).result(10)
            threads.submit(limits.took).result(10)
            assert "3 images or more" in threads.submit(limits.pressure).result(10)
        finally:
            go_on.set()
        assert "3 images or more" in counting.result(60), "what was taken meanwhile counts"


def test_below_the_floor_of_free_space_nothing_is_taken_and_above_it_again(site: Site, images: Path) -> None:
    free = [10**9]
    settings = limited(site, free=0.5)
    limits = Limits(settings, site.database, lambda: free[0])
    intake = Intake(Site(settings), lambda _id: None, limits)
    assert intake.receive(image(images, 1)) == Status.SUCCESS
    free[0] = 501_000_000  # with the image's 7 MB it would be less
    assert intake.receive(image(images, 2)) == Status.OUT_OF_RESOURCES
    assert len(list(site.store.root.rglob("*.dcm"))) == 1
    free[0] = 10**9
    assert intake.receive(image(images, 2)) == Status.SUCCESS


def test_store_that_cannot_write_is_a_recorded_refusal(site: Site, images: Path) -> None:
    intake = Intake(site, lambda _id: None)
    (site.store.root / "incoming").rmdir()
    (site.store.root / "incoming").touch()
    assert intake.receive(image(images, 1)) == Status.OUT_OF_RESOURCES
    with site.database.read() as session:
        row = session.scalars(select(Rejection)).one()
    assert (row.status, row.calling_ae) == (Status.OUT_OF_RESOURCES, "MODALITY")
    assert "Not a directory" in row.reason


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize(("backlog", "free", "words"), [(1, 0.0, "wait for analysis"), (0, 1e9, "GB free")])
def test_every_face_says_that_senders_are_told_to_come_back(
    with_model: Site, images: Path, backlog: int, free: float, words: str
) -> None:
    plain = with_model
    assert Intake(plain, lambda _id: None).receive(image(images, 1)) == 0
    assert health_facts(plain)["receiving"] == "ok"
    site = Site(limited(plain, backlog=backlog, free=free))
    facts = health_facts(site)
    assert not facts["ready"]
    assert words in facts["receiving"]
    client = TestClient(make_web(site))
    assert client.get("/readyz").status_code == 503
    assert words in client.get("/system").text
    refusing = next(family for family in SiteCollector(site).collect() if family.name == "cxr_triage_refusing")
    values = {sample.labels["limit"]: sample.value for sample in refusing.samples}
    assert values == {"backlog": 1.0 if backlog else 0.0, "free_space": 1.0 if free else 0.0}
    if free:
        (found,) = space(Examined(site.settings, (), now))
        assert (found.level, "minimum_free_gigabytes" in found.detail) == ("failed", True)
