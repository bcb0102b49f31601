"""Reading order: positive first, waiting ages, and what is outside the training domain never raises a priority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from db.records import FindingRecord
from worker.triage import place, score

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
    assert place(value, NOON, 8).priority == priority


def test_study_without_a_usable_result_stays_at_its_turn() -> None:
    assert place(None, NOON, 8).score == 0.5
    assert place(None, NOON, 8).reading_key < place(0.8, NOON, 8).reading_key
    assert place(None, NOON, 8).reading_key > place(0.2, NOON, 8).reading_key


def test_waiting_overtakes_severity_after_the_horizon() -> None:
    fresh = place(1.0, NOON, 8).reading_key
    assert place(0.0, NOON - timedelta(hours=7.9), 8).reading_key < fresh
    assert place(0.0, NOON - timedelta(hours=8.1), 8).reading_key > fresh
