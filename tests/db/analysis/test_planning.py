"""What runs every few seconds, inside a writing transaction, reads an index and never a table from end to end.

SQLite's plans are looked at without statistics, as they are on every installation that never ran ANALYZE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from db.analysis import lifecycle, planning, states
from db.analysis.planning import create_missing
from db.delivery import commitment_requests, outbox
from db.engine import processes
from db.engine.schema import prepare
from db.engine.session import Database, Session, sqlite_url
from db.model_registry import activation
from db.retention import erasure
from tests.db.conftest import MODEL, NOON

LEASE = timedelta(minutes=2)
HOT: dict[str, Callable[[Session], object]] = {
    "release analyses": lambda session: lifecycle.release_dead(session, lambda _owner: False, NOON),
    "release deliveries": lambda session: outbox.release_dead(session, lambda _owner: False, NOON),
    "create missing": lambda session: create_missing(session, NOON, 10),
    "release commitments": lambda session: commitment_requests.release_dead(session, lambda _owner: False, NOON),
    "living processes": processes.unstopped,
    "queue again": lambda session: lifecycle.requeue_pending(session, NOON, LEASE, 10),
    "claim": lambda session: lifecycle.claim(session, 1, owner="me", now=NOON, lease=LEASE, max_attempts=3),
    "destinations removed": lambda session: outbox.give_up_removed(session, {"pacs"}, NOON, 7),
    "outbox": lambda session: outbox.claim_batch(session, "pacs", owner="me", now=NOON, lease=LEASE, limit=10),
    "commitments": lambda session: commitment_requests.claim_due(session, owner="me", now=NOON, lease=LEASE, limit=10),
    "retention by age": lambda session: erasure.removable(session, before=NOON, limit=10),
    "retention by space": lambda session: erasure.removable(session, before=None, limit=10),
    "removal still allowed": lambda session: erasure.is_removable(session, 1),
    "file still needed": lambda session: erasure.referenced(session, "store:x"),
}
# the registry has a handful of rows; retention by space goes through the studies in the order of their arrival
ALLOWED = ("SCAN model", "SCAN CONSTANT ROW", "SCAN (subquery", "SCAN study USING COVERING INDEX ix_study_arrived_at")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    database = Database(sqlite_url(tmp_path / "plans.sqlite"))
    prepare(database, NOON)
    with database.write() as session:
        activation.activate(session, MODEL, NOON)
    yield database
    database.dispose()


def plans(database: Database, query: Callable[[Session], object]) -> list[str]:
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if not statement.startswith("BEGIN"):
            asked.append((statement, parameters))

    with database.write() as session:
        session.execute(text("SELECT 1"))
        event.listen(database.engine, "before_cursor_execute", note)
        try:
            query(session)
        finally:
            event.remove(database.engine, "before_cursor_execute", note)
        driver = session.connection().connection.dbapi_connection
        assert driver is not None
        assert asked
        return [
            row[3]
            for statement, parameters in asked
            for row in driver.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


@pytest.mark.parametrize("name", HOT)
def test_hot_query_scans_no_table(empty: Database, name: str) -> None:
    found = plans(empty, HOT[name])
    assert [step for step in found if step.startswith("SCAN") and not step.startswith(ALLOWED)] == []


def test_activation_looks_for_what_waits_in_an_index_and_counts_analyses_in_another(empty: Database) -> None:
    def look(session: Session) -> None:
        list(planning._retargeting(session, activation.active_models(session), NOON))
        states.several_analyses(session)

    steps = [step for step in plans(empty, look) if step.startswith("SCAN") and "model" not in step]
    assert steps == ["SCAN analysis USING COVERING INDEX sqlite_autoindex_analysis_1"], (
        "an index in its own order, without a lock"
    )


@pytest.mark.parametrize("name", ["retention by age", "retention by space", "removal still allowed"])
def test_retention_never_looks_at_all_that_is_pending_for_each_study(empty: Database, name: str) -> None:
    assert [step for step in plans(empty, HOT[name]) if "ix_analysis_state" in step or "ix_delivery_" in step] == []


@pytest.mark.parametrize("name", ["queue again", "retention by age", "retention by space"])
def test_oldest_first_is_the_order_of_an_index(empty: Database, name: str) -> None:
    assert [step for step in plans(empty, HOT[name]) if "TEMP B-TREE" in step] == []
