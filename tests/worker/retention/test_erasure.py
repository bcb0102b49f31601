"""Forgetting and retention on a real store: files go with their rows, removals are finished, debts are kept."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from db.intake.instances import record_instance
from db.records import NewInstance
from db.tables.audit import Erasure
from db.tables.studies import Study
from tests.db.conftest import NOON
from tests.db.conftest import new_instance as new_instance
from tests.peers.postgres import Postgres
from worker.cli.app import app
from worker.config.settings import DatabaseSettings, Retention, Settings
from worker.installation import Site
from worker.retention.erasure import finish_removals, forget
from worker.retention.policy import retain
from worker.runtime.clock import now
from worker.storage.store import StoredFileLost, StoreUnavailable

Make = Callable[..., NewInstance]


@pytest.fixture
def receive(site: Site, new_instance: Make) -> Callable[..., str]:
    """Records a refused image (so nothing is owed for it) whose bytes lie in the store; returns its address."""

    def make(number: int, **changes: object) -> str:
        stored = site.store.put(f"image {number}".encode())
        values = {"uri": stored.uri, "sha256": stored.sha256, "accepted": False, "study": number, **changes}
        with site.database.write() as session:
            record_instance(session, new_instance(number, **values))
        return stored.uri

    return make


def retention(site: Site, **rules: float) -> Settings:
    return site.settings.model_copy(update={"retention": Retention(**rules)})


def is_there(site: Site, uri: str) -> bool:
    try:
        return site.store.path(uri).is_file()
    except StoredFileLost:
        return False


def test_forgotten_study_has_no_file_and_others_keep_theirs(site: Site, receive: Callable[..., str]) -> None:
    first, second = receive(1), receive(2)
    (record,) = forget(site.database, site.store, now, study_instance_uid="1.2.1", patient_id=None, reason="asked")
    assert record.instances == 1
    assert not is_there(site, first)
    assert is_there(site, second)


def test_removal_interrupted_before_its_files_went_is_finished_later(
    site: Site, receive: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = receive(1)

    def power_cut(_uri: str) -> None:
        raise StoreUnavailable("the disk went away")

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr(site.store, "discard", power_cut)
        forget(site.database, site.store, now, study_instance_uid="1.2.1", patient_id=None, reason="asked")
    assert is_there(site, uri)
    assert finish_removals(site.database, site.store, now) == 1
    assert not is_there(site, uri)
    assert finish_removals(site.database, site.store, now) == 0


def test_image_that_came_again_after_it_was_forgotten_keeps_its_file(site: Site, receive: Callable[..., str]) -> None:
    receive(1)
    from db.retention import erasure

    with site.database.write() as session:
        (study_id,) = erasure.studies_of(session, study_instance_uid="1.2.1")
        erasure.erase(session, study_id, requested_by="x", reason="asked", now=NOON)
    uri = receive(1)
    finish_removals(site.database, site.store, now)
    assert is_there(site, uri)


def test_retention_removes_by_age(site: Site, receive: Callable[..., str]) -> None:
    old, young = receive(1, received_at=now() - timedelta(days=10)), receive(2, received_at=now())
    assert retain(retention(site, days=30), site.database, site.store, now) == 0
    assert retain(retention(site, days=5), site.database, site.store, now) == 1
    assert (is_there(site, old), is_there(site, young)) == (False, True)


def test_retention_by_space_removes_the_oldest_first_and_no_more_than_needed(
    site: Site, receive: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [receive(number, received_at=now() - timedelta(days=10 - number)) for number in range(1, 5)]
    # each removed image frees "1 GB"
    monkeypatch.setattr(site.store, "free_bytes", lambda: sum(not is_there(site, uri) for uri in uris) * 1_000_000_000)
    assert retain(retention(site, free_gigabytes=2), site.database, site.store, now) == 2
    assert [is_there(site, uri) for uri in uris] == [False, False, True, True]


def test_default_keeps_everything(site: Site, receive: Callable[..., str]) -> None:
    receive(1, received_at=NOON - timedelta(days=9999))
    assert retain(site.settings, site.database, site.store, now) == 0


def test_command_says_what_it_removed_and_exits_with_1_when_there_was_nothing(
    site: Site, receive: Callable[..., str]
) -> None:
    receive(1)
    words = ["forget", "--patient", "P1", "--yes", "--json", "--home", str(site.settings.home)]
    first = CliRunner().invoke(app, words)
    assert (first.exit_code, json.loads(first.stdout)) == (0, {"studies": 1, "instances": 1, "objects": 0})
    assert CliRunner().invoke(app, words).exit_code == 1
    assert CliRunner().invoke(app, ["forget", "--yes", "--home", str(site.settings.home)]).exit_code == 2


@pytest.mark.parametrize("words", [["--patient", ""], ["--patient", " "], ["--study", ""]])
def test_an_empty_id_is_wrong_usage_and_removes_nothing(
    site: Site, receive: Callable[..., str], words: list[str]
) -> None:
    uri = receive(1)
    with site.database.write() as session:
        session.execute(update(Study).values(patient_id=""))
    done = CliRunner().invoke(app, ["forget", "--yes", *words, "--home", str(site.settings.home)])
    assert done.exit_code == 2, done.output
    assert is_there(site, uri)


def test_an_id_that_could_not_be_decoded_is_not_taken_for_one_patient(site: Site, receive: Callable[..., str]) -> None:
    uri = receive(1)
    with site.database.write() as session:
        session.execute(update(Study).values(patient_id="\ufffd\ufffd"))
    done = CliRunner().invoke(app, ["forget", "--patient", "\ufffd\ufffd", "--yes", "--home", str(site.settings.home)])
    assert (done.exit_code, is_there(site, uri)) == (2, True)


def test_user_id_without_a_name_stands_in_the_audit_by_its_number(
    site: Site, receive: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("worker.retention.erasure.getpass.getuser", nameless)
    receive(1)
    assert len(forget(site.database, site.store, now, study_instance_uid="1.2.1", patient_id=None, reason="x")) == 1
    with site.database.read() as session:
        assert session.scalars(select(Erasure.requested_by)).one() == f"uid {os.getuid()}"


def test_image_left_half_written_by_a_dead_process_is_removed_and_one_being_written_is_not(site: Site) -> None:
    folder = site.store.root / "incoming"
    old, young = folder / "old", folder / "young"
    for path in (old, young):
        path.write_bytes(b"half a fi")
    long_ago = (now() - timedelta(hours=2)).timestamp()
    os.utime(old, (long_ago, long_ago))
    retain(site.settings, site.database, site.store, now)
    assert [path.name for path in folder.iterdir()] == ["young"]


def test_file_that_cannot_be_deleted_holds_up_no_other_removal(
    site: Site, receive: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other, old = receive(1), receive(2), receive(3, received_at=now() - timedelta(days=9))
    discard = site.store.discard

    def sometimes(uri: str) -> None:
        if uri == stuck:
            raise StoreUnavailable(f"{uri} cannot be deleted: Operation not permitted")
        discard(uri)

    monkeypatch.setattr(site.store, "discard", sometimes)
    with pytest.raises(StoreUnavailable, match="not permitted"):
        forget(site.database, site.store, now, study_instance_uid="1.2.1", patient_id=None, reason="asked")
    with pytest.raises(StoreUnavailable):
        forget(site.database, site.store, now, study_instance_uid="1.2.2", patient_id=None, reason="asked")
    assert [is_there(site, uri) for uri in (stuck, other)] == [True, False]
    assert retain(retention(site, days=5), site.database, site.store, now) == 1
    assert not is_there(site, old)
    monkeypatch.undo()
    assert finish_removals(site.database, site.store, now) == 1
    assert not is_there(site, stuck)


@pytest.mark.peer
def test_file_that_is_slow_to_delete_holds_up_no_arrival_but_of_the_same_bytes(
    site: Site, new_instance: Make, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Site(site.settings.model_copy(update={"database": DatabaseSettings(url=postgres.database())}))
    first, second = (slow.store.put(each) for each in (b"image 1", b"image 2"))
    with slow.database.write() as session:
        record_instance(session, new_instance(1, uri=first.uri, sha256=first.sha256, accepted=False))
    deleting, go_on = threading.Event(), threading.Event()
    discard = slow.store.discard

    def hangs(uri: str) -> None:
        deleting.set()
        assert go_on.wait(60)
        discard(uri)

    def arrives(number: int, uri: str) -> None:
        with slow.database.write() as session:
            record_instance(session, new_instance(number, study=number, uri=uri, accepted=False))

    monkeypatch.setattr(slow.store, "discard", hangs)
    asked = {"study_instance_uid": "1.2.1", "patient_id": None, "reason": "asked"}
    with ThreadPoolExecutor(3) as threads:
        removal = threads.submit(forget, slow.database, slow.store, now, **asked)
        assert deleting.wait(60)
        threads.submit(arrives, 2, second.uri).result(10)
        same = threads.submit(arrives, 3, first.uri)
        with pytest.raises(TimeoutError):
            same.result(0.5)
        go_on.set()
        removal.result(60)
        same.result(60)
    slow.database.dispose()
