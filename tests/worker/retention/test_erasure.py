"""Forgetting and retention on a real store: files go with their rows, removals are finished, debts are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
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
from worker.cli.app import app
from worker.config.settings import Retention, Settings
from worker.installation import Site
from worker.retention.erasure import finish_removals, forget
from worker.retention.policy import retain
from worker.runtime.clock import now
from worker.storage.store import StoredFileLost, StoreUnavailable

Make = Callable[..., NewInstance]


@pytest.fixture
def receive(site: Site, new_instance: Make) -> Callable[..., str]:
    """Records a refused film (so nothing is owed for it) whose bytes lie in the store; returns its address."""

    def make(number: int, **changes: object) -> str:
        stored = site.store.put(f"film {number}".encode())
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


def test_film_that_came_again_after_it_was_forgotten_keeps_its_file(site: Site, receive: Callable[..., str]) -> None:
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
    # each removed film frees "1 GB"
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


def test_film_left_half_written_by_a_dead_process_is_removed_and_one_being_written_is_not(site: Site) -> None:
    folder = site.store.root / "incoming"
    old, young = folder / "old", folder / "young"
    for path in (old, young):
        path.write_bytes(b"half a fi")
    long_ago = (now() - timedelta(hours=2)).timestamp()
    os.utime(old, (long_ago, long_ago))
    retain(site.settings, site.database, site.store, now)
    assert [path.name for path in folder.iterdir()] == ["young"]
