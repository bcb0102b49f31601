"""An image with two analyses that wait: refused while a worker read it, accepted again under another model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from db.analysis import lifecycle
from db.analysis.planning import retarget
from db.engine.session import Database
from db.intake.gate_decisions import decide_again, decided
from db.intake.instances import record_instance
from db.model_registry import activation
from db.model_registry.scope import ModelScope
from db.records import ActiveModel, Decision, NewInstance
from db.tables.analyses import Analysis
from db.tables.studies import Instance
from tests.db.analysis.test_lifecycle import LEASE
from tests.db.conftest import MODEL, NOON

SECOND, THIRD = (ActiveModel(digest=each * 64, name=each, folder=f"/{each}", preprocessing_id="pad") for each in "bc")


@pytest.fixture
def twice(with_model: Database, new_instance: Callable[..., NewInstance]) -> Database:
    with with_model.write() as session:
        record_instance(session, new_instance())
        assert lifecycle.claim(session, 1, owner="me", now=NOON, lease=LEASE, max_attempts=3)
    for accepted in (False, True):
        with with_model.write() as session:
            if accepted:
                activation.activate(session, SECOND, NOON)
            before = decided(session, "1.2.3.1")
            assert before is not None
            rules = "2" if accepted else "3"
            decide_again(session, before, Decision(rules, accepted, "region", "", {}, ()), NOON)
    with with_model.write() as session:
        lifecycle.release_dead(session, lambda _process: True, NOON)
    assert keys(with_model) == [("a" * 64, "pending"), ("b" * 64, "pending")]
    return with_model


def keys(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        rows = session.execute(select(Analysis.model_digest, Analysis.state).order_by(Analysis.id))
        return [(digest, state) for digest, state in rows]


def image_state(database: Database) -> str:
    with database.read() as session:
        return session.scalars(select(Instance.state)).one()


def test_of_two_that_wait_one_moves_to_the_model_that_is_activated(twice: Database) -> None:
    with twice.write() as session:
        activation.activate(session, THIRD, NOON)
    assert retarget(twice, NOON) == 1
    assert keys(twice) == [("c" * 64, "pending")]
    assert image_state(twice) == "pending"


def test_one_that_waits_for_the_model_already_is_kept(twice: Database) -> None:
    assert retarget(twice, NOON) == 0
    assert keys(twice) == [("b" * 64, "pending")]
    with twice.write() as session:  # nothing is left under the former key that would keep it unread
        activation.activate(session, MODEL, NOON)
    assert retarget(twice, NOON) == 1
    assert keys(twice) == [("a" * 64, "pending")]


def test_where_no_model_reads_the_image_any_more_both_end_and_come_back_as_one(twice: Database) -> None:
    with twice.write() as session:  # of children alone; the image is of a man of forty
        activation.deactivate(session)
        activation.activate(session, THIRD, NOON, ModelScope.of_json({"ages": [[0, 17]], "views": []}))
    assert retarget(twice, NOON) == 0
    assert keys(twice) == [("", "not_applicable")]
    assert image_state(twice) == "not_applicable"
    with twice.write() as session:
        activation.activate(session, SECOND, NOON)
    retarget(twice, NOON)
    assert keys(twice) == [("b" * 64, "pending")]
    assert image_state(twice) == "pending"
