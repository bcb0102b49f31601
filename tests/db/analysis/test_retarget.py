"""After an activation, what waits follows it: in small transactions, changing only what has to, and to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select

from db.analysis import planning
from db.analysis.planning import retarget
from db.engine.session import Database, Session
from db.intake.instances import record_instance
from db.model_registry import activation
from db.model_registry.activation import routing_is_applied
from db.model_registry.scope import ModelScope
from db.records import NewInstance
from db.tables.analyses import Analysis
from db.tables.studies import Instance
from tests.db.conftest import MODEL, NOON

Make = Callable[..., NewInstance]
OTHER = replace(MODEL, digest="b" * 64, name="second")
WAITING = 1_201


@pytest.fixture
def many(with_model: Database, new_instance: Make) -> Database:
    """A database in which more waits than one transaction may change."""
    with with_model.write() as session:
        record_instance(session, new_instance())
        for table, own in ((Instance, "sop_instance_uid"), (Analysis, "instance_id")):
            (row,) = session.execute(select(table.__table__)).mappings()
            rest = {name: value for name, value in row.items() if name != "id"}
            session.execute(
                insert(table),
                [{**rest, own: f"1.9.{n}" if table is Instance else n} for n in range(2, WAITING + 1)],
            )
    return with_model


@contextmanager
def changed(database: Database) -> Iterator[list[int]]:
    """How many analyses each transaction changes, in turn."""
    counts: list[int] = []

    def begun(_connection: object) -> None:
        counts.append(0)

    def done(_connection: object, cursor: Any, statement: str, *_rest: object) -> None:  # noqa: ANN401
        if statement.startswith("UPDATE analysis"):
            counts[-1] += cursor.rowcount

    event.listen(database.engine, "begin", begun)
    event.listen(database.engine, "after_cursor_execute", done)
    try:
        yield counts
    finally:
        event.remove(database.engine, "begin", begun)
        event.remove(database.engine, "after_cursor_execute", done)


def activate(database: Database, scope: ModelScope | None = None) -> None:
    with database.write() as session:
        activation.activate(session, OTHER, NOON, scope)


def waiting_for(database: Database) -> dict[str, int]:
    with database.read() as session:
        names = select(Analysis.model_name, func.count()).where(Analysis.state == "pending")
        return dict(session.execute(names.group_by(Analysis.model_name)).all())


def test_no_transaction_rewrites_all_that_waits(many: Database) -> None:
    activate(many)
    with changed(many) as counts:
        assert retarget(many, NOON) == WAITING
    assert sum(counts) == WAITING
    assert max(counts) <= 500
    assert waiting_for(many) == {"second": WAITING}


def test_what_waits_for_its_reader_already_is_not_rewritten(many: Database) -> None:
    activate(many, ModelScope(((0, 17),)))  # all that waits is of adults
    with changed(many) as counts:
        assert retarget(many, NOON) == 0
    assert sum(counts) == 0
    with many.write() as session:
        activation.deactivate(session, MODEL.digest)
    with changed(many) as counts:
        retarget(many, NOON)
        assert sum(counts) == WAITING, "nobody reads them now, and each says so"
        retarget(many, NOON)
        assert sum(counts) == WAITING, "which is said once"


def test_activation_whose_process_dies_half_way_is_known_and_ended(
    many: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with many.read() as session:
        assert not routing_is_applied(session), "activated, and nothing has looked yet"
    retarget(many, NOON)
    activate(many)
    calls: list[int] = []
    move = planning._move

    def dies(session: Session, **values: Any) -> int:  # noqa: ANN401
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return move(session, **values)

    with monkeypatch.context() as patch:
        patch.setattr(planning, "_move", dies)
        with pytest.raises(KeyboardInterrupt):
            retarget(many, NOON)
    assert waiting_for(many) == {"second": 500, "first": WAITING - 500}
    with many.read() as session:
        assert not routing_is_applied(session)
    assert retarget(many, NOON) == WAITING - 500
    with many.read() as session:
        assert routing_is_applied(session)


def test_two_that_retarget_at_once_move_each_image_once_and_end_none(many: Database) -> None:
    activate(many)
    with many.read() as session:
        steps = [*planning._retargeting(session, activation.active_models(session), NOON)]
    retarget(many, NOON)
    for step in steps:  # of the other, which had looked before
        with many.write() as session:
            assert step(session) == 0
    assert waiting_for(many) == {"second": WAITING}


def test_later_activation_ends_the_former_ones_work(many: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(many)
    move = planning._move

    def meanwhile(session: Session, **values: Any) -> int:  # noqa: ANN401
        found = move(session, **values)
        activation.activate(session, MODEL, NOON)
        return found

    monkeypatch.setattr(planning, "_move", meanwhile)
    assert retarget(many, NOON) == 500
    monkeypatch.undo()
    assert retarget(many, NOON) == 500
    assert waiting_for(many) == {"first": WAITING}
