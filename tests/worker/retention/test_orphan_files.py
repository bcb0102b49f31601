"""Files that a crash left without a row are set aside, others never, whoever comes at the same moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from db.tables.studies import Location
from dicom_io.network.status_codes import Status
from tests.worker.intake.test_intake import received
from worker.config.settings import DatabaseSettings
from worker.installation import Site
from worker.intake.intake import Intake
from worker.retention.orphan_files import set_aside
from worker.runtime.timeouts import UNREFERENCED_AGE, UNREFERENCED_KEPT
from worker.storage.store import DICOM_SUFFIX

NOW = datetime.now(UTC)
LATER = NOW + UNREFERENCED_AGE + timedelta(hours=1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def either(site: Site, request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database()
        site = Site(site.settings.model_copy(update={"database": DatabaseSettings(url=url)}))
    yield site
    site.database.dispose()


def whole_round(site: Site, moment: datetime) -> int:
    """As many looks as the store has folders."""
    return sum(set_aside(site.database, site.store, moment + timedelta(minutes=number)) for number in range(256))


def age(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def test_file_that_no_row_names_is_set_aside_when_old_and_deleted_much_later(either: Site, images: Path) -> None:
    site = either
    image = received(images / "RG1_UNCR.dcm")
    assert Intake(site, lambda _id: None).receive(image) == Status.SUCCESS
    orphan = site.store.path(site.store.put(b"half a crash").uri)
    assert whole_round(site, NOW + timedelta(hours=1)) == 0, "whoever wrote it may be about to record it"
    assert whole_round(site, LATER) == 1
    aside = site.store.root / "unreferenced" / orphan.name
    assert (orphan.exists(), aside.read_bytes()) == (False, b"half a crash")
    with site.database.read() as session:
        assert site.store.whole(*session.execute(select(Location.uri, Location.sha256)).one())
    age(aside, NOW - UNREFERENCED_KEPT - timedelta(days=1))
    assert set_aside(site.database, site.store, NOW) == 0
    assert not aside.exists()


def test_old_file_that_is_set_aside_is_kept_for_its_time_whatever_another_scheduler_does(site: Site) -> None:
    orphan = site.store.path(site.store.put(b"half a crash").uri)
    age(orphan, NOW - 2 * UNREFERENCED_KEPT)
    assert whole_round(site, NOW) == 1
    assert set_aside(site.database, site.store, NOW) == 0
    assert (site.store.root / "unreferenced" / orphan.name).read_bytes() == b"half a crash"


def test_image_that_is_recorded_while_its_old_file_is_set_aside_keeps_its_bytes(
    either: Site, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash left the file; its sender comes again, and finds it there, in the moment it is cleared away."""
    site = either
    image = received(images / "RG1_UNCR.dcm")
    age(site.store.path(site.store.put(image.data, DICOM_SUFFIX).uri), NOW - timedelta(days=3))
    put = site.store.put

    def cleared_right_after(data: bytes, suffix: str) -> object:
        stored = put(data, suffix)
        monkeypatch.undo()
        assert whole_round(site, NOW) == 1
        return stored

    monkeypatch.setattr(site.store, "put", cleared_right_after)
    assert Intake(site, lambda _id: None).receive(image) == Status.SUCCESS
    with site.database.read() as session:
        assert site.store.whole(*session.execute(select(Location.uri, Location.sha256)).one())


def test_store_whose_database_knows_nothing_of_it_is_left_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.retention.orphan_files._FOLDERS", 1)
    folder = site.store.root / "00" / "11"
    folder.mkdir(parents=True)
    for number in range(30):
        (folder / f"{number:064x}.dcm").write_bytes(b"image")
    assert set_aside(site.database, site.store, LATER) == 0
    assert len(list(folder.iterdir())) == 30
