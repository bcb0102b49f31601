"""Every decision about an image is kept; the newest counts in the ledger, the measures and on the worklist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from db.analysis import lifecycle
from db.analysis.planning import create_missing
from db.engine.session import Database
from db.intake import gate_decisions
from db.intake.gate_decisions import DecidedElsewhere
from db.intake.instances import record_instance
from db.records import Decision, NewInstance
from db.tables.analyses import Analysis
from db.tables.gate import GateDecision
from db.views.ledger import ledger
from db.views.metrics import measure
from db.views.study_page import study_page
from db.views.worklist import worklist
from tests.db.conftest import NOON

Make = Callable[..., NewInstance]
BY_HAND = Decision(
    "1+person", True, "read anyway", "read although refused", {}, ("read although refused: region",), "Dr Who"
)
LATER = NOON + timedelta(minutes=1)


@pytest.fixture
def refused(with_model: Database, new_instance: Make) -> Database:
    with with_model.write() as session:
        assert record_instance(session, new_instance(accepted=False)).analysis_id is None
        record_instance(session, new_instance(2))
    return with_model


def overrule(database: Database, decision: Decision = BY_HAND) -> int | None:
    with database.read() as session:
        before = gate_decisions.decided(session, "1.2.3.1")
    assert before is not None
    with database.write() as session:
        return gate_decisions.decide_again(session, before, decision, LATER)


def test_ones_word_makes_one_reading_with_its_flag_and_keeps_the_rules_decision(refused: Database) -> None:
    analysis_id = overrule(refused)
    assert analysis_id is not None
    with refused.write() as session:
        claimed = lifecycle.claim(
            session, analysis_id, owner="me", now=NOON, lease=timedelta(minutes=1), max_attempts=3
        )
    assert claimed is not None
    assert claimed.flags == ("read although refused: region",)
    with refused.read() as session:
        rows = session.scalars(
            select(GateDecision).where(GateDecision.instance_id == 1).order_by(GateDecision.id)
        ).all()
        page = study_page(session, "1.2.1", NOON)
    assert [(row.rule, row.accepted, row.current, row.decided_by) for row in rows] == [
        ("region", False, False, ""),
        ("read anyway", True, True, "Dr Who"),
    ]
    assert page is not None
    image = page.row.images[0]
    assert image.decision is not None
    assert (image.decision.decided_by, image.decision.decided_at) == ("Dr Who", LATER)
    assert [each.reason for each in image.earlier] == ["not a chest"]


def test_newest_decision_counts_everywhere_and_each_image_once(refused: Database) -> None:
    with refused.read() as session:
        before = ledger(session, NOON)
    assert (before.received, before.not_applicable, before.rules) == (2, 1, {"region": 1})
    overrule(refused)
    with refused.read() as session:
        book = ledger(session, NOON)
        found = measure(session, NOON, timedelta(hours=1), 10)
        (item,) = worklist(session)
    assert (book.received, book.not_applicable, book.pending) == (2, 0, 2)
    assert book.rules == book.reasons == found.refused == {}
    assert sum(found.instances.values()) == 2
    assert item.reason == ""


def test_second_word_about_the_same_decision_is_told(refused: Database) -> None:
    with refused.read() as session:
        before = gate_decisions.decided(session, "1.2.3.1")
    assert before is not None
    overrule(refused)
    with pytest.raises(DecidedElsewhere, match="another decision was made meanwhile"), refused.write() as session:
        gate_decisions.decide_again(session, before, replace(BY_HAND, rules_version="2"), LATER)


def test_rules_that_a_site_goes_back_to_decide_again_and_keep_what_they_decided_before(refused: Database) -> None:
    other = replace(BY_HAND, rules_version="2", accepted=False, rule="size", reason="small", decided_by="", flags=())
    assert overrule(refused, other) is None
    assert overrule(refused, replace(other, rules_version="1", rule="region", reason="not a chest, either")) is None
    with refused.read() as session:
        assert [each.sop_instance_uid for each in gate_decisions.refused_by_other_rules(session, "2", 0, 9)] == [
            "1.2.3.1"
        ]
        assert gate_decisions.refused_by_other_rules(session, "1", 0, 9) == []
    overrule(refused)
    with refused.read() as session:
        assert gate_decisions.refused_by_other_rules(session, "2", 0, 9) == []
        kept = session.scalars(select(GateDecision).where(GateDecision.instance_id == 1).order_by(GateDecision.id))
        assert [(each.rules_version, each.reason, each.decided_at) for each in kept] == [
            ("1", "not a chest", NOON),
            ("2", "small", LATER),
            ("1", "not a chest, either", LATER),
            ("1+person", "read although refused", LATER),
        ]


def test_what_is_let_in_while_no_model_is_active_waits_for_one(database: Database, new_instance: Make) -> None:
    from db.model_registry import activation
    from tests.db.conftest import MODEL

    with database.write() as session:
        record_instance(session, new_instance(accepted=False))
    assert overrule(database) is None
    with database.write() as session:
        activation.activate(session, MODEL, NOON)
        assert create_missing(session, NOON, 10) == 1
        assert create_missing(session, NOON, 10) == 0
        assert session.scalars(select(Analysis.state)).all() == ["pending"]
