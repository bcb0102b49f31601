"""Leases: one holder at a time, attempts counted, a dead holder's work taken over, a lost lease writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from db.analysis import lifecycle
from db.analysis.current_result import study_findings
from db.analysis.planning import keep_current, retarget
from db.delivery import objects, outbox
from db.engine.session import Database
from db.intake.instances import record_instance
from db.model_registry import activation
from db.reasons import ReasonCode
from db.records import AnalysisResult, ClaimedAnalysis, FindingRecord, NewInstance
from db.tables.analyses import Analysis, Finding
from db.views import ledger
from db.views.worklist import study_item, worklist
from tests.db.conftest import MODEL, NOON, heatmap

LEASE = timedelta(minutes=2)
Make = Callable[..., NewInstance]


def result(probability: float = 0.9, *, outside: bool = False) -> AnalysisResult:
    return AnalysisResult(
        engine="openvino",
        precision="f32",
        application_version="cxr-triage 0",
        ood_score=0.1,
        flags=("outside training domain",) if outside else (),
        outside_domain=outside,
        record={},
        findings=(FindingRecord("Pneumonia", probability, 1.0, 0.5, probability >= 0.5),),
        maps=b"maps",
        affine=(1, 0, 0, 0, 1, 0),
    )


@pytest.fixture
def analysis_id(with_model: Database, new_instance: Make) -> int:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance())
    assert recorded.analysis_id is not None
    return recorded.analysis_id


def claim(database: Database, analysis_id: int, owner: str = "me", now: datetime = NOON) -> ClaimedAnalysis | None:
    with database.write() as session:
        return lifecycle.claim(session, analysis_id, owner=owner, now=now, lease=LEASE, max_attempts=3)


def test_only_one_claims(with_model: Database, analysis_id: int) -> None:
    assert claim(with_model, analysis_id, "one") is not None
    assert claim(with_model, analysis_id, "two") is None


def test_expired_lease_is_taken_over_and_the_first_holder_can_write_nothing(
    with_model: Database, analysis_id: int
) -> None:
    first = claim(with_model, analysis_id, "one")
    second = claim(with_model, analysis_id, "two", NOON + LEASE + timedelta(seconds=1))
    assert first is not None
    assert second is not None
    assert second.attempts == 2
    with with_model.write() as session:
        assert not lifecycle.complete(session, first, result(), NOON)
    with with_model.read() as session:
        assert session.scalar(select(func.count()).select_from(Finding)) == 0
    with with_model.write() as session:
        assert lifecycle.complete(session, second, result(), NOON)
        assert not lifecycle.complete(session, second, result(), NOON)
    with with_model.read() as session:
        assert session.scalar(select(func.count()).select_from(Finding)) == 1


def test_image_that_kills_its_worker_stops_after_three_attempts_with_its_error(
    with_model: Database, analysis_id: int
) -> None:
    when = NOON
    for _ in range(3):
        assert claim(with_model, analysis_id, "doomed", when) is not None
        when += LEASE + timedelta(seconds=1)
    assert claim(with_model, analysis_id, "fourth", when) is None
    with with_model.read() as session:
        row = session.get_one(Analysis, analysis_id)
    assert (row.state, row.attempts) == ("failed", 3)
    assert row.reason == "stopped after 3 attempts: the worker died while reading it"
    assert row.reason_code == ReasonCode.WORKER_LOST


@pytest.mark.parametrize("seen", ["while it runs", "after it was freed", "after it failed"])
def test_how_its_worker_died_is_kept_however_late_that_is_seen(
    with_model: Database, analysis_id: int, seen: str
) -> None:
    def see() -> None:
        with with_model.write() as session:
            assert lifecycle.note_loss(session, [analysis_id], "signal 11") == 1

    def free() -> None:
        with with_model.write() as session:
            assert lifecycle.release_dead(session, lambda _owner: True, NOON) == 1

    for _ in range(3):
        assert claim(with_model, analysis_id, "doomed") is not None
        if seen == "while it runs":
            see()
        free()
        if seen == "after it was freed":
            see()
    assert claim(with_model, analysis_id, "fourth") is None
    if seen == "after it failed":
        see()
    with with_model.read() as session:
        row = session.get_one(Analysis, analysis_id)
    assert (row.state, row.reason) == ("failed", "stopped after 3 attempts: signal 11")
    assert row.reason_code == ReasonCode.WORKER_DIED
    with with_model.write() as session:
        assert lifecycle.note_loss(session, [analysis_id], "another word") == 0


def test_fault_of_the_machine_does_not_count_against_the_image_and_is_waited_out(
    with_model: Database, analysis_id: int
) -> None:
    code = ReasonCode.STORE_UNAVAILABLE
    for number in range(5):
        claimed = claim(with_model, analysis_id)
        assert claimed is not None
        assert (claimed.attempts, claimed.faults) == (1, number)
        retry_at = NOON + timedelta(seconds=20)
        with with_model.write() as session:
            assert lifecycle.give_back(session, claimed, reason="disk full", code=code, retry_at=retry_at)
            idle = timedelta(seconds=6)
            assert lifecycle.requeue_pending(session, NOON + timedelta(seconds=19), idle, 10) == []
            assert lifecycle.requeue_pending(session, NOON + timedelta(seconds=20), idle, 10) == [analysis_id]
            assert lifecycle.requeue_pending(session, NOON + timedelta(seconds=21), idle, 10) == []


def test_fault_noted_by_a_clock_that_was_set_back_is_not_waited_out_for_hours(
    with_model: Database, analysis_id: int
) -> None:
    claimed = claim(with_model, analysis_id)
    assert claimed is not None
    with with_model.write() as session:
        ahead = NOON + timedelta(hours=5)
        lifecycle.give_back(session, claimed, reason="", code=ReasonCode.STORE_UNAVAILABLE, retry_at=ahead)
        assert lifecycle.requeue_pending(session, NOON, timedelta(seconds=6), 10) == [analysis_id]


def test_image_that_waited_for_a_broken_model_is_queued_at_once_for_another(
    with_model: Database, analysis_id: int
) -> None:
    claimed = claim(with_model, analysis_id)
    assert claimed is not None
    with with_model.write() as session:
        retry_at = NOON + timedelta(minutes=1)
        lifecycle.give_back(session, claimed, reason="", code=ReasonCode.MODEL_UNAVAILABLE, retry_at=retry_at)
        activation.activate(session, replace(MODEL, digest="b" * 64), NOON)
    assert retarget(with_model, NOON) == 1
    with with_model.write() as session:
        assert lifecycle.requeue_pending(session, NOON, timedelta(seconds=6), 10) == [analysis_id]


def test_dead_owner_is_freed_at_once_and_a_living_one_is_not(with_model: Database, analysis_id: int) -> None:
    claim(with_model, analysis_id, "alive")
    with with_model.write() as session:
        assert lifecycle.release_dead(session, lambda owner: owner == "dead", NOON) == 0
        assert lifecycle.release_dead(session, lambda owner: owner == "alive", NOON) == 1
    assert claim(with_model, analysis_id, "next") is not None


def test_pending_analysis_is_queued_again_only_after_a_while(with_model: Database, analysis_id: int) -> None:
    with with_model.write() as session:
        assert lifecycle.requeue_pending(session, NOON + timedelta(seconds=1), timedelta(seconds=5), 10) == []
        assert lifecycle.requeue_pending(session, NOON + timedelta(seconds=6), timedelta(seconds=5), 10) == [
            analysis_id
        ]
        assert lifecycle.requeue_pending(session, NOON + timedelta(seconds=7), timedelta(seconds=5), 10) == []


def test_failed_and_not_applicable_carry_their_reason_to_ledger_and_worklist(
    with_model: Database, analysis_id: int
) -> None:
    claimed = claim(with_model, analysis_id)
    assert claimed is not None
    with with_model.write() as session:
        assert lifecycle.end(
            session, claimed, state="failed", reason="no pixel data", code=ReasonCode.PIXELS_UNREADABLE, now=NOON
        )
    with with_model.read() as session:
        book = ledger.ledger(session, NOON)
        item = worklist(session)[0]
    assert book.failed == 1
    assert (book.unfinished[0].reason, book.unfinished[0].reason_code) == ("no pixel data", "pixels_unreadable")
    assert (item.state, item.reason, item.reason_code) == ("failed", "no pixel data", "pixels_unreadable")


def test_study_shows_the_maximum_of_its_images(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        ids = [record_instance(session, new_instance(number)).analysis_id for number in (1, 2)]
    for analysis_id, probability in zip(ids, (0.3, 0.8), strict=True):
        assert analysis_id is not None
        claimed = claim(with_model, analysis_id)
        assert claimed is not None
        with with_model.write() as session:
            lifecycle.complete(session, claimed, result(probability), NOON)
            found, any_done, inside = study_findings(session, claimed.study_id)
    assert (any_done, inside) == (True, True)
    assert [finding.probability for finding in found] == [0.8]
    with with_model.read() as session:
        item = study_item(session, "1.2.1")
    assert item is not None
    assert [finding.probability for finding in item.findings] == [0.8]


def test_image_outside_the_domain_gives_no_finding_to_rank_by(with_model: Database, analysis_id: int) -> None:
    claimed = claim(with_model, analysis_id)
    assert claimed is not None
    with with_model.write() as session:
        lifecycle.complete(session, claimed, result(0.99, outside=True), NOON)
        assert study_findings(session, claimed.study_id) == ((), True, False)
    with with_model.read() as session:
        item = worklist(session)[0]
    assert item.flags == ("outside training domain",)
    assert item.findings[0].probability == 0.99  # shown, after its flag


@pytest.fixture
def delivery(with_model: Database, analysis_id: int) -> Database:
    claimed = claim(with_model, analysis_id)
    assert claimed is not None
    with with_model.write() as session:
        lifecycle.complete(session, claimed, result(), NOON)
        objects.record(session, heatmap(claimed), NOON)
    return with_model


def test_outbox_row_is_claimed_once_and_sent_once(delivery: Database) -> None:
    options = {"owner": "d", "now": NOON, "lease": LEASE, "limit": 10}
    with delivery.write() as session:
        (item,) = outbox.claim_batch(session, "pacs", **options)  # type: ignore[arg-type]
    with delivery.write() as session:
        assert outbox.claim_batch(session, "pacs", **options) == []  # type: ignore[arg-type]
        assert outbox.claim_batch(session, "elsewhere", **options) == []  # type: ignore[arg-type]
        outbox.mark_sent(session, item, NOON)
    with delivery.read() as session:
        assert ledger.ledger(session, NOON).deliveries == {
            "pending": 0,
            "sent": 1,
            "committed": 0,
            "failed": 0,
            "superseded": 0,
        }


def test_retried_delivery_waits_for_its_time_and_counts_attempts(delivery: Database) -> None:
    later = NOON + timedelta(seconds=5)
    with delivery.write() as session:
        (item,) = outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=10)
        outbox.mark_retry(session, item, next_attempt_at=later, reason="A700", code=ReasonCode.PEER_STATUS)
    with delivery.write() as session:
        assert outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=10) == []
        (again,) = outbox.claim_batch(session, "pacs", owner="d", now=later, lease=LEASE, limit=10)
    assert again.attempts == 2


def test_refused_delivery_stays_failed_until_a_person_retries_it(delivery: Database) -> None:
    with delivery.write() as session:
        (item,) = outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=10)
        outbox.mark_failed(session, item, "status A900", ReasonCode.PEER_STATUS)
        assert outbox.claim_batch(session, "pacs", owner="d", now=NOON + LEASE * 9, lease=LEASE, limit=10) == []
        assert outbox.retry_failed(session, "pacs", NOON) == 1
        assert len(outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=10)) == 1


def test_what_waits_for_another_model_is_read_by_the_one_that_is_activated(
    with_model: Database, new_instance: Make, analysis_id: int
) -> None:
    other = replace(MODEL, digest="b" * 64, name="second")
    with with_model.write() as session:
        done = record_instance(session, new_instance(2)).analysis_id
        assert done is not None
        claimed = lifecycle.claim(session, done, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, result(), NOON)
    with with_model.write() as session:
        activation.activate(session, other, NOON)
    assert retarget(with_model, NOON) == 1
    assert retarget(with_model, NOON) == 0
    with with_model.write() as session:
        assert lifecycle.requeue_pending(session, NOON, timedelta(seconds=10), 10) == [analysis_id]
    again = claim(with_model, analysis_id)
    assert again is not None
    assert again.model_digest == other.digest
    with with_model.read() as session:
        assert session.get_one(Analysis, done).model_digest == MODEL.digest


def test_what_another_version_queued_is_what_its_reader_makes_and_is_read_once(
    with_model: Database, analysis_id: int
) -> None:
    claimed = claim(with_model, analysis_id)
    assert claimed is not None
    with with_model.write() as session:
        assert lifecycle.read_as(session, replace(claimed, claim="somebody else"), "pad", NOON) is None
        renamed = lifecycle.read_as(session, claimed, "pad", NOON)
    assert renamed == replace(claimed, preprocessing_id="pad")
    with with_model.write() as session:
        assert lifecycle.complete(session, renamed, result(), NOON)
        former = session.get_one(Analysis, analysis_id)
        assert former.preprocessing_id == "pad"
        duplicate = Analysis(instance_id=former.instance_id, state="pending", reason="", created_at=NOON)
        duplicate.source_sha256, duplicate.model_digest, duplicate.model_name = (
            former.source_sha256,
            former.model_digest,
            "first",
        )
        duplicate.preprocessing_id = "squash"
        session.add(duplicate)
        session.flush()
        duplicate_id = duplicate.id
    claimed = claim(with_model, duplicate_id)
    assert claimed is not None
    with with_model.write() as session:
        assert lifecycle.read_as(session, claimed, "pad", NOON) is None
    with with_model.read() as session:
        duplicate = session.get_one(Analysis, duplicate_id)
    assert (duplicate.state, duplicate.reason) == ("not_applicable", "not read for squash: for pad it is done already")


def test_only_who_saw_the_last_word_changes_what_is_queued_from_now_on(with_model: Database) -> None:
    with with_model.write() as session:
        keep_current(session, replace(MODEL, preprocessing_id="seen long ago"), "pad")
        assert activation.known_model(session, MODEL.digest) == MODEL
        keep_current(session, MODEL, "pad")
        assert activation.known_model(session, MODEL.digest) == replace(MODEL, preprocessing_id="pad")
