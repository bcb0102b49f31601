"""Database time of pages, look-ups and metrics in an archive of a million studies, on SQLite and on PostgreSQL.

``CXR_TRIAGE_BENCH_STUDIES`` sets another number of studies. 1,000 arrive a day; 300 wait, 50,000 are undelivered.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import event, insert, text

from db.engine.schema import prepare
from db.engine.session import Database, Session, sqlite_url
from db.engine.tallies import add_up
from db.model_registry import activation
from db.records import ActiveModel
from db.tables.base import Base
from db.views.ledger import ledger
from db.views.ledger_details import ledger_details, studies_of
from db.views.metrics import measure
from db.views.study_page import earlier_page, study_page, worklist_page
from db.views.worklist import Wanted, items_of, newest_first
from tests.peers.postgres import Postgres

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=48)
MODEL = ActiveModel("a" * 64, "first", "/model", "squash")
_BATCH = 5_000
_REPEATS = 7
Rows = dict[str, list[dict[str, Any]]]


def pages(folder: Path) -> Iterator[str]:
    """Fill both databases, then time what every page asks of them."""
    number = int(os.environ.get("CXR_TRIAGE_BENCH_STUDIES", "1000000"))
    yield from _measure("SQLite", Database(sqlite_url(folder / "pages.sqlite")), number)
    with Postgres(folder / "postgres") as server:
        yield from _measure("PostgreSQL", Database(server.database()), number)


def _measure(product: str, database: Database, number: int) -> Iterator[str]:
    with database:
        prepare(database, NOW)
        with database.write() as session:
            activation.activate(session, MODEL, NOW)
        started = time.monotonic()
        _fill(database, number)
        yield f"{product}: {number:,} studies written in {time.monotonic() - started:.0f} s"
        for name, page in _pages(number).items():
            yield f"{product}: {name:14} {_database_milliseconds(database, page):6.1f} ms"


def _pages(number: int) -> dict[str, Callable[[Session], object]]:
    def whole_ledger(session: Session) -> None:
        book = ledger(session, NOW, timedelta(0), 200)
        ledger_details(session)
        studies_of(session, [each.sop_instance_uid for each in book.unfinished])

    far_back = (NOW - timedelta(days=number / 2000), number // 2)
    return {
        "worklist": lambda session: worklist_page(session, 0, 50, Wanted(since=SINCE)),
        "worklist, HIGH": lambda session: worklist_page(session, 0, 50, Wanted(since=SINCE, priority="HIGH")),
        "earlier": lambda session: earlier_page(session, 50, Wanted(until=SINCE), None),
        "far back": lambda session: earlier_page(session, 50, Wanted(until=SINCE), far_back),
        "patient": lambda session: items_of(session, newest_first(session, 200, Wanted(patient_id="P1234"))),
        "accession": lambda session: items_of(session, newest_first(session, 200, Wanted(accession_number="ACC777"))),
        "date": lambda session: items_of(session, newest_first(session, 50, Wanted(study_date="20260228"))),
        "study": lambda session: study_page(session, f"1.2.826.0.1.{number // 2}", SINCE),
        "ledger": whole_ledger,
        "system": lambda session: ledger(session, NOW, limit=0),
        "metrics": lambda session: measure(session, NOW, timedelta(hours=1), 500),
    }


def _database_milliseconds(database: Database, page: Callable[[Session], object]) -> float:
    """Median time of all statements of a page and of fetching their rows, without what Python makes of them."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_more: object) -> None:
        if not statement.startswith("BEGIN"):
            asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as session:
        page(session)
    event.remove(database.engine, "before_cursor_execute", note)
    times = []
    with database.read() as session:
        cursor = session.connection().connection.cursor()
        for _ in range(_REPEATS):
            started = time.perf_counter()
            for statement, parameters in asked:
                cursor.execute(statement, parameters)
                cursor.fetchall()
            times.append(1e3 * (time.perf_counter() - started))
    return median(times)


def _fill(database: Database, number: int) -> None:
    chance = random.Random(1)
    for first in range(1, number + 1, _BATCH):
        rows: Rows = {}
        for each in range(first, min(first + _BATCH, number + 1)):
            _study(rows, each, number, chance.random())
        with database.write() as session:
            for table, values in rows.items():
                session.execute(insert(Base.metadata.tables[table]), values)
    add_up(database, beyond=0)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # as autovacuum leaves it: dead rows of a load at once are no archive's
        connection.execute(text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE"))


def _study(rows: Rows, n: int, number: int, probability: float) -> None:
    """Add the rows of study `n`: every seventh is refused, every five hundredth failed, the last 300 wait."""
    at = NOW - timedelta(days=(number - n) / 1000)
    waits, refused, failed = n > number - 300, n % 7 == 0, n % 500 == 3
    state = "not_applicable" if refused else "pending" if waits else "failed" if failed else "done"
    priority = "MEDIUM" if state != "done" else "HIGH" if probability >= 0.5 else "LOW"
    uid = f"1.2.826.0.1.{n}"

    def add(table: str, **values: object) -> None:
        rows.setdefault(table, []).append(values)

    add(
        "study", id=n, study_instance_uid=uid, patient_id=f"P{n // 3}", patient_name=f"N^{n}",
        patient_birth_date="19600101", patient_sex="M", accession_number=f"ACC{n}", study_date=f"{at:%Y%m%d}",
        study_time="120000", study_description="CHEST", arrived_at=at, latest_at=at, priority=priority,
        score=probability, reading_key=probability * 28800 - at.timestamp(), ai_state=state,
    )  # fmt: skip
    add(
        "instance", id=n, study_id=n, sop_instance_uid=f"1.2.826.0.2.{n}", sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        series_instance_uid="1.2.3", transfer_syntax_uid="1.2.840.10008.1.2.1", origin="live", calling_ae="MODALITY",
        correlation_id="c" * 36, received_at=at, age_years=60.0, view="PA", flags=[],
        state="refused" if refused else state, outside_domain=False,
    )  # fmt: skip
    add(
        "location", id=n, instance_id=n, uri=f"store:{n}", sha256=f"{n:064x}", size=1, received_at=at,
        calling_ae="MODALITY", study_instance_uid=uid,
    )  # fmt: skip
    add(
        "gate_decision", id=n, instance_id=n, origin="live", rules_version="1", accepted=not refused,
        rule="view" if refused else "accepted", reason=f"view LL {n % 40}" if refused else "ok", facts={"a": 1},
        flags=[], decided_at=at, waits=False, current=True, decided_by="",
    )  # fmt: skip
    if refused:
        return
    add(
        "analysis", id=n, instance_id=n, model_digest=MODEL.digest, preprocessing_id="squash", model_name="first",
        state=state, reason="broken" if failed else "", reason_code="", queue="live", priority=0, enqueued_at=at,
        created_at=at, finished_at=None if waits else at, engine="openvino", precision="f32", application_version="1",
        source_sha256=f"{n:064x}", ood_score=0.5, flags=[], outside_domain=False, record={"a": 1}, attempts=1,
    )  # fmt: skip
    if state != "done":
        return
    for k in range(4):
        add("finding", analysis_id=n, position=k, label=f"Label{k}", probability=probability, logit=0.0, threshold=0.5,
            positive=probability >= 0.5)  # fmt: skip
    add(
        "object", id=n, kind="heatmap", subject_uid=f"1.2.826.0.2.{n}", model_digest=MODEL.digest,
        preprocessing_id="squash", label="Label0", variant="", revision=1, inputs_digest="f" * 64, study_id=n,
        sop_instance_uid=f"2.25.{n}", uri=f"store:o{n}", sha256="e" * 64, size=5, created_at=at,
    )  # fmt: skip
    add("object_source", object_id=n, analysis_id=n)
    owed = n > number - 50_000
    add(
        "delivery", id=n, object_id=n, destination="pacs", state="pending" if owed else "sent",
        reason="cannot be reached" if owed else "", reason_code="", created_at=at, sent_at=None if owed else at,
        attempts=1, next_attempt_at=at,
    )  # fmt: skip
