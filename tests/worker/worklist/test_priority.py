"""Reading order: positive first, waiting ages, and what is outside the training domain never raises a priority."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from db.analysis import lifecycle
from db.intake.instances import record_instance
from db.model_registry import activation
from db.records import ActiveModel, FindingRecord, NewInstance
from db.views.worklist import study_item
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL
from tests.db.conftest import new_instance as new_instance
from worker.installation import Site
from worker.worklist.priority import is_counted, rank_study, score, triage_for

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def finding(probability: float, threshold: float) -> FindingRecord:
    return FindingRecord("Pneumonia", probability, 0.0, threshold, probability >= threshold)


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [
        (0.0, 0.5, 0.0),
        (0.25, 0.5, 0.25),
        (0.5, 0.5, 0.5),
        (0.75, 0.5, 0.75),
        (1.0, 0.5, 1.0),
        (0.1, 0.2, 0.25),  # half way to a low threshold counts as half way to a high one
        (0.6, 0.2, 0.75),
        (1.0, 1.0, 0.5),
        (0.0, 0.0, 0.5),
    ],
)
def test_score_is_half_at_the_threshold_whatever_the_threshold(
    probability: float, threshold: float, expected: float
) -> None:
    assert score([finding(probability, threshold)]) == pytest.approx(expected)


def test_strongest_finding_decides() -> None:
    assert score([finding(0.1, 0.5), finding(0.9, 0.5), finding(0.3, 0.9)]) == pytest.approx(0.9)


@pytest.mark.parametrize(("value", "priority"), [(0.9, "HIGH"), (0.5, "HIGH"), (0.49, "LOW"), (None, "MEDIUM")])
def test_priority_words(value: float | None, priority: str) -> None:
    assert triage_for(value, NOON, 8).priority == priority


def test_study_without_a_usable_result_stays_at_its_turn() -> None:
    assert triage_for(None, NOON, 8).score == 0.5
    assert triage_for(None, NOON, 8).reading_key < triage_for(0.8, NOON, 8).reading_key
    assert triage_for(None, NOON, 8).reading_key > triage_for(0.2, NOON, 8).reading_key


def test_waiting_overtakes_severity_after_the_horizon() -> None:
    fresh = triage_for(1.0, NOON, 8).reading_key
    assert triage_for(0.0, NOON - timedelta(hours=7.9), 8).reading_key < fresh
    assert triage_for(0.0, NOON - timedelta(hours=8.1), 8).reading_key > fresh


def test_reading_queued_for_the_former_model_does_not_take_back_what_the_active_one_found(
    site: Site, new_instance: Callable[..., NewInstance]
) -> None:
    ids = []
    for number, digest in ((1, "a" * 64), (2, "b" * 64)):
        with site.database.write() as session:
            activation.activate(session, ActiveModel(digest, "m", MODEL.folder, MODEL.preprocessing_id), NOON)
            ids.append(record_instance(session, new_instance(number)).analysis_id)
    for number, probability in ((1, 0.9), (0, 0.1)):  # the active model's ends first
        analysis_id = ids[number]
        assert analysis_id is not None
        with site.database.write() as session:
            claimed = lifecycle.claim(session, analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
            assert claimed is not None
            assert lifecycle.complete(session, claimed, result(probability), NOON)
            rank_study(session, claimed.study_id, 8)
    with site.database.read() as session:
        item = study_item(session, "1.2.1")
    assert item is not None
    assert (item.priority, item.findings[0].probability) == ("HIGH", 0.9)


def test_finding_that_reaches_its_threshold_but_is_not_counted_raises_nothing() -> None:
    untrained = FindingRecord("Effusion", 0.95, 0.0, 0.6, positive=False)
    assert score([untrained, finding(0.25, 0.5)]) == pytest.approx(0.25)
    assert not is_counted(untrained)
    assert is_counted(finding(0.25, 0.5))
    assert is_counted(finding(0.75, 0.5))
