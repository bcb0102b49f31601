"""Upgrades from every released revision with rows of all kinds in it, on both databases: nothing is lost or misread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    func,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

import db.migrations
import db.tables.audit
import db.tables.delivery
import db.tables.processes  # every table that a row is looked for in
from db.engine.schema import HEAD_REVISION, revision, upgrade
from db.engine.session import Database, Session, sqlite_url
from db.engine.tallies import tallies
from db.tables.analyses import Analysis
from db.tables.base import Base
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Study
from tests.db.conftest import NOON

_MIGRATIONS = Path(next(iter(db.migrations.__path__))) / "versions"
REVISIONS = sorted({path.name[:4] for path in _MIGRATIONS.glob("0*.py")} - {HEAD_REVISION})
Old = Callable[[str], "Before"]


class Before:
    """A database at an older revision, and what puts rows into the tables that it has there."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tables = MetaData()
        with database.engine.connect() as connection:
            self.tables.reflect(connection)

    def __contains__(self, table: str) -> bool:
        return table in self.tables.tables

    def add(self, session: Session, name: str, /, **values: object) -> None:
        """Insert a row; a column that must have a value and is not named gets a plain one of its type."""
        table = self.tables.tables[name]
        plain = {column.name: _plain(column) for column in table.columns if not column.nullable}
        plain.pop("id", None)
        session.execute(insert(table).values({**plain, **_of_table(table, values)}))


def _of_table(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in table.columns}


def _plain(column: Column[Any]) -> object:
    plain: tuple[tuple[type, object], ...] = (
        (Boolean, False),
        (DateTime, NOON),
        (Float, 0.0),
        (Integer, 1),
        (LargeBinary, b""),
        (JSON, []),
    )
    return next((value for kind, value in plain if isinstance(column.type, kind)), "")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def old(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    opened: list[Database] = []

    def make(number: str) -> Before:
        if request.param == "sqlite":
            database = Database(sqlite_url(tmp_path / "old.sqlite"))
        else:
            database = Database(request.getfixturevalue("postgres").database())
        opened.append(database)
        with monkeypatch.context() as patch:
            patch.setattr("db.engine.schema.HEAD_REVISION", number)
            upgrade(database, NOON)
        return Before(database)

    yield make
    for database in opened:
        database.dispose()


def add_one_of_each(before: Before, session: Session) -> None:
    """One row in every table, as far as the revision has it, each referring to the others."""
    before.add(session, "study", id=1, study_instance_uid="1.2.1", priority="MEDIUM")
    before.add(session, "instance", id=1, study_id=1, sop_instance_uid="1.2.3", origin="live")
    before.add(session, "location", id=1, instance_id=1, uri="store:x", study_instance_uid="1.2.1")
    before.add(session, "gate_decision", id=1, instance_id=1, accepted=True, current=True, rule="accepted", facts={})
    before.add(session, "model", digest="d", name="m", active=True, is_default=True)
    before.add(session, "analysis", id=1, instance_id=1, model_digest="d", state="done", attempts=1, record={})
    before.add(session, "finding", analysis_id=1, position=0, label="Mass")
    before.add(session, "logit_maps", analysis_id=1)
    before.add(session, "object", id=1, study_id=1, analysis_id=1, sop_instance_uid="2.25.1", kind="heatmap")
    before.add(session, "delivery", id=1, object_id=1, destination="pacs", state="sent")
    before.add(session, "rejection", id=1, key="k")
    for optional, values in {
        "erasure": {"id": 1},
        "commitment": {"id": 1, "transaction_uid": "1.2.9", "state": "reported"},
        "ground_cell": {"age": 3, "view": "PA", "model_digest": "d"},
        "model_scope_cell": {"age": 3, "view": "PA", "model_digest": "d"},
        "stray": {"location_id": 1, "study_id": 1},
        "misfiled_location": {"location_id": 1, "study_id": 1},
        "job": {"id": 1, "state": "planned"},
        "object_source": {"object_id": 1, "analysis_id": 1},
        "process": {"id": 1},
    }.items():
        if optional in before:
            before.add(session, optional, **values)


@pytest.mark.parametrize("number", REVISIONS)
def test_every_row_is_kept_whatever_revision_it_comes_from(old: Old, number: str) -> None:
    before = old(number)
    with before.database.write() as session:
        add_one_of_each(before, session)
        # one row each, but of the tallies, which triggers write
        rows = {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in before.tables.tables.items()
        }
    assert all(number == 1 for name, number in rows.items() if name != "tally"), rows
    assert upgrade(before.database, NOON) == HEAD_REVISION
    renamed = {"stray": "misfiled_location", "ground_cell": "model_scope_cell"}
    with before.database.read() as session:
        for name in before.tables.tables:
            if name != "alembic_version":
                table = Base.metadata.tables[renamed.get(name, name)]
                assert session.scalar(select(func.count()).select_from(table)) == rows[name], name
                assert session.execute(select(table)).all(), name
    assert revision(before.database) == HEAD_REVISION


def test_old_analyses_get_the_queue_of_their_images_origin(old: Old) -> None:
    before = old("0011")
    with before.database.write() as session:
        add_one_of_each(before, session)
        before.add(session, "instance", id=2, study_id=1, sop_instance_uid="1.2.4", origin="archive")
        before.add(session, "analysis", id=2, instance_id=2, model_digest="d", state="pending", record={})
    upgrade(before.database, NOON)
    with before.database.read() as session:
        rows = session.execute(select(Analysis.id, Analysis.queue, Analysis.job_id).order_by(Analysis.id)).all()
    assert rows == [(1, "live", None), (2, "batch", None)]


def test_upgrade_stores_the_states_that_the_rows_make(old: Old) -> None:
    before = old("0012")
    # decision, then the analyses (model, state, outside the domain) of each image; the model "c" reads children
    images = [
        (True, 44, [], "pending", False),
        (False, 44, [("d", "done", True)], "refused", False),
        (True, 44, [("d", "done", True)], "done", True),
        (True, 44, [("d", "failed", True)], "failed", False),
        (True, 44, [("d", "done", False), ("c", "running", False)], "done", False),
        (True, 4, [("c", "not_applicable", False), ("d", "done", True)], "not_applicable", False),
        (True, 44, [("e", "failed", False), ("f", "running", False)], "running", False),
    ]
    with before.database.write() as session:
        before.add(session, "model", digest="d", active=True, is_default=True, scope=None)
        before.add(session, "model", digest="c", active=True, scope={"ages": [[0, 17]], "views": []})
        for number, (accepted, age, analyses, _state, _outside) in enumerate(images, 1):
            before.add(session, "study", id=number, study_instance_uid=f"1.2.{number}")
            origin = "archive" if number == 1 else "live"
            uid = f"1.2.3.{number}"
            before.add(
                session, "instance", id=number, study_id=number, sop_instance_uid=uid, origin=origin, age_years=age
            )
            before.add(session, "gate_decision", id=number, instance_id=number, accepted=accepted, current=True)
            for model, state, outside in analyses:
                before.add(
                    session,
                    "analysis",
                    instance_id=number,
                    model_digest=model,
                    state=state,
                    outside_domain=outside,
                    record={},
                    job_id=None,
                )
        before.add(session, "study", id=99, study_instance_uid="1.2.99")
    upgrade(before.database, NOON)
    with before.database.read() as session:
        found = session.execute(select(Instance.state, Instance.outside_domain).order_by(Instance.id)).all()
        assert found == [(state, outside) for *_, state, outside in images]
        states = session.scalars(select(Study.ai_state).order_by(Study.id)).all()
        assert states == [*("not_applicable" if each[3] == "refused" else each[3] for each in images), "not_applicable"]
        origins = session.scalars(select(GateDecision.origin).order_by(GateDecision.id)).all()
        assert origins == ["archive", *["live"] * 6]


@pytest.mark.parametrize(
    ("table", "reason", "code"),
    [
        ("analysis", "", ""),
        ("analysis", "queued for preprocessing squash+gray9, but this program has squash+gray1", "other_version"),
        (
            "analysis",
            "no active model reads age 45, view PA (children reads 0-17 years)",
            "no_model_for_image",
        ),
        ("analysis", "not read by this model: first has read the image", "already_read"),
        ("analysis", "not read for squash: for pad it is done already", "already_read"),
        ("analysis", "stopped after 3 attempts: the worker died while reading it", "worker_lost"),
        ("analysis", "stopped after 3 attempts: its process died: signal 11 (SIGSEGV)", "worker_died"),
        ("analysis", "it did not end within 60 s, so its process was stopped", "worker_died"),
        ("analysis", "stopped after 3 attempts: unexpected ValueError", "unexpected_error"),
        ("analysis", "bundle /models/a: it is unfinished", "model_unavailable"),
        ("analysis", "aa/bb.dcm is not in the store /srv/store", "store_unavailable"),
        ("analysis", "database sqlite:///x: disk I/O error", "database_unavailable"),
        ("analysis", "PixelData holds 12 bytes, 24 are needed", "other"),
        ("delivery", "", ""),
        ("delivery", "the peer is out of resources (status 0xA700)", "peer_status"),
        ("delivery", "PACS@h:1 cannot be reached: Connection refused", "peer_unreachable"),
        (
            "delivery",
            "PACS@h:1 rejected our association as CXRTRIAGE: no reason given",
            "peer_unreachable",
        ),
        ("delivery", "the association with PACS@h:1 was lost", "not_sent"),
        ("delivery", "unexpected KeyError", "unexpected_error"),
        ("delivery", "something else", "other"),
        ("commitment", "given up: unexpected KeyError", "unexpected_error"),
        ("commitment", "given up: PACS@h:1 cannot be reached: Connection refused", "peer_unreachable"),
        ("commitment", "", ""),
    ],
)
def test_known_sentences_of_old_rows_get_their_code(old: Old, table: str, reason: str, code: str) -> None:
    before = old("0008")
    with before.database.write() as session:
        add_one_of_each(before, session)
        session.execute(before.tables.tables[table].update().values(reason=reason))
    upgrade(before.database, NOON)
    with before.database.read() as session:
        assert session.scalar(select(Base.metadata.tables[table].c.reason_code)) == code


def test_upgrade_counts_what_is_there_and_knows_when_each_study_last_had_news(old: Old) -> None:
    before = old("0014")
    later = NOON + timedelta(days=1)
    with before.database.write() as session:
        for number, (origin, received) in enumerate([("live", NOON), ("live", later), ("archive", later)], 1):
            study = 1 if number <= 2 else 3
            if number != 2:
                before.add(session, "study", id=study, study_instance_uid=f"1.2.{study}", arrived_at=NOON)
            before.add(
                session,
                "instance",
                id=number,
                study_id=study,
                sop_instance_uid=f"1.2.3.{number}",
                origin=origin,
                state="done" if number == 1 else "refused",
                outside_domain=number == 1,
                received_at=received,
            )
            before.add(
                session,
                "gate_decision",
                instance_id=number,
                origin=origin,
                accepted=number == 1,
                current=True,
                rule="region",
                reason="not a chest",
                facts={},
            )
        before.add(session, "study", id=4, study_instance_uid="1.2.4", arrived_at=NOON)
        before.add(session, "rejection", key="k", status=0xA700, number=5)
    upgrade(before.database, NOON)
    with before.database.write() as session:
        assert dict(session.execute(select(Study.id, Study.latest_at)).all()) == {1: later, 3: None, 4: NOON}
        assert tallies(session, "instance", "accepted", "refused", "rejection", "delivery") == {
            "instance": {("done", "outside"): 1, ("refused", ""): 1},
            "accepted": {("", ""): 1},
            "refused": {("region", "not a chest"): 1},
            "rejection": {(str(0xA700), ""): 5},
            "delivery": {},
        }
        # a copy of the table would have lost these
        session.add_all(_decision(current=current) for current in (False, False))
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(_decision(current=True))
            session.flush()


def _decision(*, current: bool) -> GateDecision:
    return GateDecision(
        instance_id=1,
        origin="live",
        rules_version="1",
        accepted=True,
        rule="",
        reason="",
        facts={},
        flags=[],
        decided_at=NOON,
        current=current,
    )
