"""A study is removed while others work on it: nobody meets a broken foreign key, a deadlock, or a row left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text

from db.analysis import lifecycle, planning
from db.delivery import objects
from db.engine.schema import prepare
from db.engine.session import Database, Session
from db.intake.instances import record_instance
from db.model_registry import activation
from db.reasons import ReasonCode
from db.records import ClaimedAnalysis, NewInstance
from db.retention import erasure
from db.tables.analyses import Finding
from db.tables.delivery import MadeObject
from db.tables.gate import GateDecision
from db.tables.studies import Study
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL, NOON, heatmap
from tests.peers.postgres import Postgres
from tests.peers.processes import wait_until

pytestmark = pytest.mark.peer


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Database]:
    database = Database(postgres.database())
    prepare(database, NOON)
    with database.write() as session:
        activation.activate(session, MODEL, NOON)
    yield database
    database.dispose()


def claim(session: Session) -> ClaimedAnalysis:
    claimed = lifecycle.claim(session, 1, owner="me", now=NOON, lease=LEASE, max_attempts=3)
    assert claimed is not None
    return claimed


def forget(database: Database) -> int:
    with database.write() as session:
        ids = erasure.studies_of(session, patient_id="P1")
        for each in ids:
            erasure.erase(session, each, requested_by="me", reason="asked", now=NOON)
    return len(ids)


def waits_for_a_lock(database: Database) -> bool:
    with database.read() as session:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(session.scalar(text(waiting)))


def rows(database: Database) -> list[int]:
    with database.read() as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in (Study, Finding, MadeObject)]


def test_study_removed_while_its_result_is_stored(server: Database, new_instance: Callable[..., NewInstance]) -> None:
    with server.write() as session:
        record_instance(session, new_instance())
        claimed = claim(session)
    with ThreadPoolExecutor(1) as other:
        with server.write() as session:
            assert lifecycle.complete(session, claimed, result(), NOON)
            session.flush()
            removal = other.submit(forget, server)
            wait_until(lambda: waits_for_a_lock(server), 60, "the removal waits for the result")
            objects.record(session, heatmap(claimed), NOON)
        assert removal.result(60) == 1
    assert rows(server) == [0, 0, 0]


@pytest.mark.parametrize("how", ["claim", "complete", "give back", "release", "create missing"])
def test_work_on_a_study_that_is_being_removed_waits_and_finds_it_gone(
    server: Database, new_instance: Callable[..., NewInstance], how: str
) -> None:
    with server.write() as session:
        record_instance(session, new_instance())
        if how == "create missing":
            session.execute(select(GateDecision)).scalar_one().waits = True
        elif how != "claim":
            claimed = claim(session)
    begun = threading.Event()

    def work() -> object:
        with server.write() as session:
            session.execute(text("SELECT 1"))
            begun.set()
            if how == "claim":
                return lifecycle.claim(session, 1, owner="me", now=NOON, lease=LEASE, max_attempts=3)
            if how == "complete":
                return lifecycle.complete(session, claimed, result(), NOON) or None
            if how == "give back":
                return lifecycle.give_back(session, claimed, reason="", code=ReasonCode.NONE, retry_at=NOON) or None
            if how == "release":
                return lifecycle.release_dead(session, lambda _process: True, NOON) or None
            return planning.create_missing(session, NOON, 9) or None

    with ThreadPoolExecutor(1) as other:
        with server.write() as session:
            (study,) = erasure.studies_of(session, patient_id="P1")
            working = other.submit(work)
            assert begun.wait(60)
            wait_until(lambda: waits_for_a_lock(server), 60, "the worker waits for the removal")
            erasure.erase(session, study, requested_by="me", reason="asked", now=NOON)
        assert working.result(60) is None
    assert rows(server) == [0, 0, 0]


def test_two_removals_of_one_study_remove_it_once(server: Database, new_instance: Callable[..., NewInstance]) -> None:
    with server.write() as session:
        record_instance(session, new_instance())
    with ThreadPoolExecutor(1) as other:
        with server.write() as session:
            (study,) = erasure.studies_of(session, patient_id="P1")
            second = other.submit(forget, server)
            wait_until(lambda: waits_for_a_lock(server), 60, "the second waits for the first")
            erasure.erase(session, study, requested_by="me", reason="asked", now=NOON)
        assert second.result(60) == 0
