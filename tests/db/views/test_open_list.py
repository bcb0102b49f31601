"""A study stands on the open list as long as there is news of it, in the order of its score and arrival; then it is
found among the earlier ones. An archive's alone stands on neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select, update

from db.analysis import lifecycle
from db.analysis.planning import create_missing, retarget
from db.analysis.states import refresh
from db.engine.session import Database, Session
from db.intake.instances import record_instance
from db.model_registry import activation
from db.reasons import ReasonCode
from db.records import FindingRecord, NewInstance, Queued, Recorded, StudyIdentity
from db.tables.analyses import Analysis
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Study
from db.views.ledger import ledger
from db.views.study_page import earlier_page, study_page, worklist_page
from db.views.worklist import Wanted, newest_first, worklist
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL, NOON
from worker.worklist.priority import rank_study, triage_for

Make = Callable[..., NewInstance]
HORIZON = 8.0
OPEN = timedelta(hours=48)
LOW, HIGH = (FindingRecord("Mass", p, 0.0, 0.5, p >= 0.5) for p in (0.1, 0.9))


def read(database: Database, new: NewInstance, finding: FindingRecord, ended: datetime | None = None) -> None:
    """Receive an image and store its result, a second later unless said otherwise."""
    ended = new.received_at + timedelta(seconds=1) if ended is None else ended
    new = replace(new, triage=triage_for(None, new.received_at, HORIZON))
    with database.write() as session:
        recorded = record_instance(session, new)
        assert recorded.analysis_id is not None
        claimed = lifecycle.claim(session, recorded.analysis_id, owner="me", now=ended, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, replace(result(), findings=(finding,)), ended)
        rank_study(session, claimed.study_id, HORIZON)


def order(database: Database, now: datetime, **sought: str) -> list[str]:
    with database.read() as session:
        return [item.study_instance_uid for item in worklist(session, wanted=Wanted(since=now - OPEN, **sought))]


def earlier(database: Database, now: datetime) -> list[str]:
    with database.read() as session:
        return [study.study_instance_uid for study in newest_first(session, 100, Wanted(until=now - OPEN))]


def test_last_weeks_studies_do_not_stand_before_todays(with_model: Database, new_instance: Make) -> None:
    for day in range(7):
        for number, finding in ((1, LOW), (2, HIGH)):
            uid = 10 * day + number
            read(with_model, new_instance(uid, study=uid, received_at=NOON - timedelta(days=day, hours=1)), finding)
    assert set(order(with_model, NOON)) == {"1.2.1", "1.2.2", "1.2.11", "1.2.12"}, "today's and yesterday's"
    assert earlier(with_model, NOON) == [f"1.2.{day}{number}" for day in range(2, 7) for number in (2, 1)]


def test_todays_studies_stand_in_the_order_of_score_and_waiting(with_model: Database, new_instance: Make) -> None:
    # (study, its finding, minutes since it arrived): by hand, score x 8 h + waiting
    studies = [(1, HIGH, 1), (2, LOW, 60), (3, HIGH, 120), (4, LOW, 7 * 60), (5, LOW, 1)]
    for number, finding, minutes in studies:
        received = NOON - timedelta(minutes=minutes)
        read(with_model, new_instance(number, study=number, received_at=received), finding)
    # 0.9 x 8 = 7.2 h; 0.8 + 1; 7.2 + 2; 0.8 + 7; 0.8
    assert order(with_model, NOON) == ["1.2.3", "1.2.4", "1.2.1", "1.2.2", "1.2.5"]
    assert order(with_model, NOON, priority="HIGH") == ["1.2.3", "1.2.1"]


@pytest.mark.parametrize("hours", [47.9, 48.1])
def test_study_leaves_48_hours_after_its_last_image(with_model: Database, new_instance: Make, hours: float) -> None:
    first = NOON - timedelta(days=30)
    read(with_model, new_instance(1, received_at=first), LOW)
    assert (order(with_model, NOON), earlier(with_model, NOON)) == ([], ["1.2.1"])
    last = NOON - timedelta(hours=hours)
    read(with_model, new_instance(2, received_at=last), LOW)
    is_open = hours < 48
    assert order(with_model, NOON) == (["1.2.1"] if is_open else [])
    assert earlier(with_model, NOON) == ([] if is_open else ["1.2.1"])


def test_same_bytes_again_open_no_list_and_other_bytes_do(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        record_instance(session, new_instance(received_at=NOON - timedelta(days=9)))
        record_instance(session, new_instance(received_at=NOON))
    assert order(with_model, NOON) == []
    with with_model.write() as session:
        record_instance(session, new_instance(received_at=NOON, sha256="f" * 64, uri="store:other"))
    assert order(with_model, NOON) == ["1.2.1"], "its flag has to be seen"


def test_result_that_comes_days_late_is_seen_on_the_open_list(with_model: Database, new_instance: Make) -> None:
    read(with_model, new_instance(received_at=NOON - timedelta(days=5)), HIGH, ended=NOON)
    assert order(with_model, NOON) == ["1.2.1"]


@pytest.mark.parametrize("attempts", [0, 3])
def test_reading_that_fails_days_late_is_seen_on_the_open_list(
    with_model: Database, new_instance: Make, attempts: int
) -> None:
    """Who looks at the open list alone must learn that no opinion will come; out of attempts, or by its pixels."""
    with with_model.write() as session:
        recorded = record_instance(session, new_instance(received_at=NOON - timedelta(days=5)))
        session.execute(update(Analysis).values(attempts=attempts))
    assert order(with_model, NOON) == []
    with with_model.write() as session:
        assert recorded.analysis_id is not None
        claimed = lifecycle.claim(session, recorded.analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        if claimed is not None:
            code = ReasonCode.PIXELS_UNREADABLE
            lifecycle.end(session, claimed, state="failed", reason="unreadable", code=code, now=NOON)
    assert order(with_model, NOON) == ["1.2.1"]


def test_result_that_a_job_makes_of_an_old_study_does_not_bring_it_back(
    with_model: Database, new_instance: Make
) -> None:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance(received_at=NOON - timedelta(days=5)))
        session.execute(update(Analysis).values(queue="batch"))
        assert recorded.analysis_id is not None
        claimed = lifecycle.claim(session, recorded.analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, result(), NOON)
    assert order(with_model, NOON) == []


def test_study_page_names_its_neighbours_on_its_own_list(with_model: Database, new_instance: Make) -> None:
    for number, days in ((1, 0), (2, 0), (3, 5), (4, 6), (5, 7)):
        read(with_model, new_instance(number, study=number, received_at=NOON - timedelta(days=days, hours=number)), LOW)

    def beside(session: Session, uid: str) -> tuple[str | None, str | None, bool]:
        page = study_page(session, uid, NOON - OPEN)
        assert page is not None
        return page.previous, page.next, page.is_open

    with with_model.read() as session:
        assert beside(session, "1.2.2") == (None, "1.2.1", True)
        assert beside(session, "1.2.1") == ("1.2.2", None, True)
        assert beside(session, "1.2.4") == ("1.2.3", "1.2.5", False)


def test_pages_of_the_earlier_ones_follow_each_other_without_gap_or_repetition(
    with_model: Database, new_instance: Make
) -> None:
    with with_model.write() as session:
        for number in range(1, 12):  # some of the same second
            when = NOON - timedelta(days=9, seconds=number // 3)
            record_instance(session, new_instance(number, study=number, received_at=when))
    seen: list[str] = []
    before = None
    with with_model.read() as session:
        while True:
            page = earlier_page(session, 4, Wanted(until=NOON - OPEN), before)
            seen += [row.item.study_instance_uid for row in page.rows]
            before = page.more
            if before is None:
                break
    assert sorted(seen) == sorted(f"1.2.{number}" for number in range(1, 12))
    assert seen == earlier(with_model, NOON)


def test_study_is_found_by_patient_accession_date_and_priority_on_whatever_list(
    with_model: Database, new_instance: Make
) -> None:
    for number, (days, patient, accession, date) in enumerate(
        [(0, "P1", "A1", "20260301"), (9, "P1", "A2", "20260220"), (9, "P2", "A3", "20260220")], 1
    ):
        identity = StudyIdentity(f"1.2.{number}", patient_id=patient, accession_number=accession, study_date=date)
        new = new_instance(number, received_at=NOON - timedelta(days=days))
        read(with_model, replace(new, study=identity), HIGH)
    for sought, found in (
        ({"patient_id": "P1"}, ["1.2.1", "1.2.2"]),
        ({"accession_number": "A3"}, ["1.2.3"]),
        ({"study_date": "20260220"}, ["1.2.3", "1.2.2"]),
        ({"study_date": "20260220", "patient_id": "P1"}, ["1.2.2"]),
        ({"priority": "LOW"}, []),
        ({"patient_id": "p1"}, []),
    ):
        with with_model.read() as session:
            studies = newest_first(session, 10, Wanted(**sought))  # type: ignore[arg-type]  # all are texts
            assert [study.study_instance_uid for study in studies] == found, sought


def archived(database: Database, new: NewInstance) -> Recorded:
    with database.write() as session:
        return record_instance(session, replace(new, origin="archive", job_id=None))


def test_image_of_an_archive_is_on_no_list(with_model: Database, new_instance: Make) -> None:
    archived(with_model, new_instance())
    with with_model.read() as session:
        assert worklist(session) == []
        assert worklist_page(session, 0, 9, Wanted()).total == 0
        assert ledger(session, NOON).received == 0


@pytest.mark.parametrize("bytes_again", ["same", "different"])
def test_image_that_an_archive_brought_and_a_modality_sends_is_on_the_worklist(
    with_model: Database, new_instance: Make, bytes_again: str
) -> None:
    first = archived(with_model, new_instance(received_at=NOON - timedelta(days=90)))
    assert first.queued == Queued(1, "batch")
    changes = {} if bytes_again == "same" else {"sha256": "f" * 64, "uri": "store:other"}
    with with_model.write() as session:
        triage = triage_for(None, NOON, HORIZON)
        recorded = record_instance(session, new_instance(received_at=NOON, triage=triage, **changes))
    assert recorded == Recorded(bytes_again, 1, Queued(1, "live"))  # type: ignore[arg-type]  # one of the two
    assert order(with_model, NOON) == ["1.2.1"]
    with with_model.read() as session:
        book = ledger(session, NOON)
        assert (book.received, book.pending, book.unfinished[0].since) == (1, 1, NOON)
        assert session.scalars(select(GateDecision.origin)).all() == ["live"]
        assert session.scalar(select(Study.arrived_at)) == NOON
        assert worklist(session)[0].arrived_at == NOON


def test_image_that_was_read_in_an_archive_is_ranked_from_its_arrival_with_the_result_it_has(
    with_model: Database, new_instance: Make
) -> None:
    before = NOON - timedelta(days=90)
    read(with_model, new_instance(origin="archive", received_at=before), HIGH)
    with with_model.write() as session:
        assert record_instance(session, new_instance(received_at=NOON)).queued is None
    with with_model.read() as session:
        assert session.scalar(select(Study.reading_key)) == pytest.approx(
            triage_for(0.9, NOON, HORIZON).reading_key, abs=1e-3
        )
        (item,) = worklist(session)
        assert (item.state, item.priority) == ("done", "HIGH")
        assert ledger(session, NOON).done == 1


def test_image_that_an_archive_brought_for_another_model_or_none_is_read_when_it_is_sent(
    database: Database, new_instance: Make
) -> None:
    archived(database, new_instance())
    with database.write() as session:
        assert record_instance(session, new_instance(received_at=NOON)).queued is None
        activation.activate(session, MODEL, NOON)
        assert create_missing(session, NOON, 10) == 1
    archived(database, new_instance(2, study=2))
    with database.write() as session:
        session.execute(update(Analysis).where(Analysis.instance_id == 2).values(model_digest="b" * 64, state="done"))
        recorded = record_instance(session, new_instance(2, study=2, received_at=NOON))
    assert recorded.queued is not None
    with database.read() as session:
        assert session.get_one(Analysis, recorded.queued.id).model_digest == MODEL.digest
        assert session.get_one(Instance, 2).state == "pending"


def test_former_models_word_does_not_rank_a_study_whose_reader_failed(with_model: Database, new_instance: Make) -> None:
    read(with_model, new_instance(), HIGH)
    other = replace(MODEL, digest="b" * 64, name="second")
    with with_model.write() as session:
        activation.activate(session, other, NOON)
        failed = Analysis(instance_id=1, model_digest=other.digest, preprocessing_id="squash", model_name="second")
        failed.state, failed.reason, failed.created_at = "failed", "damaged", NOON
        session.add(failed)
        session.flush()
        refresh(session, [1])
        rank_study(session, 1, HORIZON)
        (item,) = worklist(session)
    assert (item.priority, item.reason, item.findings) == ("MEDIUM", "damaged", ())


def test_study_that_two_models_have_read_is_ranked_by_the_one_that_reads_it_after_each_activation(
    with_model: Database, new_instance: Make
) -> None:
    other = replace(MODEL, digest="b" * 64, name="second")
    read(with_model, new_instance(), HIGH)
    with with_model.write() as session:
        session.add(
            Analysis(
                instance_id=1,
                model_digest=other.digest,
                preprocessing_id="squash",
                model_name="second",
                state="pending",
                reason="",
                created_at=NOON,
            )
        )
    with with_model.write() as session:
        claimed = lifecycle.claim(session, 2, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, replace(result(), findings=(LOW,)), NOON)
        rank_study(session, 1, HORIZON)
    for model, priority in ((other, "LOW"), (MODEL, "HIGH")):
        with with_model.write() as session:
            activation.activate(session, model, NOON)
        retarget(with_model, NOON, partial(rank_study, horizon_hours=HORIZON))
        with with_model.read() as session:
            (item,) = worklist(session)
        assert (item.model, item.priority, item.findings[0].positive) == (model.name, priority, priority == "HIGH")
