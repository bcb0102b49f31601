"""What arrives is recorded once, and nothing that contradicts it is lost or read in its place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from db.analysis import lifecycle
from db.analysis.planning import create_missing
from db.engine.session import Database, StatementRejected
from db.intake.identity_conflicts import DIFFERENT_CONTENT, OTHER_PATIENT
from db.intake.instances import RecordedElsewhere, record_instance
from db.intake.rejected_transfers import record_rejection
from db.records import BATCH, NewInstance, Queued, Recorded
from db.tables.analyses import Analysis
from db.tables.jobs import Job
from db.tables.studies import Instance, Location
from db.views import ledger
from tests.db.conftest import NOON

Make = Callable[..., NewInstance]


def test_accepted_instance_gets_a_pending_analysis(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance())
    assert recorded.outcome == "new"
    assert recorded.analysis_id is not None


def test_work_of_a_job_names_it_and_its_queue_and_is_counted_by_state(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        job = Job(source="folder", state="running", created_at=NOON)
        session.add(job)
        session.flush()
        for number in (1, 2, 3):
            new = new_instance(number, study=number, origin="archive", job_id=job.id, priority=5)
            assert record_instance(session, new).queued == Queued(number, BATCH)
        record_instance(session, new_instance(4, study=4))
        assert lifecycle.claim(session, 2, owner="me", now=NOON, lease=timedelta(minutes=1), max_attempts=3)
        counts = select(Analysis.state, func.count()).where(Analysis.job_id == job.id).group_by(Analysis.state)
        assert dict(session.execute(counts).all()) == {"pending": 2, "running": 1}
        assert session.execute(select(Analysis.queue, Analysis.priority).distinct().order_by(Analysis.queue)).all() == [
            ("batch", 5),
            ("live", 0),
        ]
    with pytest.raises(StatementRejected, match=r"(?i)foreign key"), with_model.write() as session:
        record_instance(session, new_instance(5, study=5, origin="archive", job_id=404))


def test_refused_instance_gets_no_analysis_but_stands_in_the_ledger(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance(accepted=False))
    assert recorded == Recorded("new", recorded.instance_id, None)
    with with_model.read() as session:
        book = ledger.ledger(session, NOON)
    assert (book.received, book.not_applicable, book.pending) == (1, 1, 0)
    assert book.reasons == {"not a chest": 1}


def test_same_bytes_again_add_nothing(with_model: Database, new_instance: Make) -> None:
    for expected in ("new", "same", "same"):
        with with_model.write() as session:
            assert record_instance(session, new_instance()).outcome == expected
    with with_model.read() as session:
        assert session.scalar(select(func.count()).select_from(Location)) == 1
        assert session.scalar(select(func.count()).select_from(Analysis)) == 1


def test_other_bytes_under_the_same_uid_are_kept_beside_and_flagged_never_read(
    with_model: Database, new_instance: Make
) -> None:
    with with_model.write() as session:
        first = record_instance(session, new_instance())
    with with_model.write() as session:
        other = record_instance(session, new_instance(uri="store:cc/dd/other.dcm", sha256="f" * 64))
    assert other == Recorded("different", first.instance_id, None)
    assert first.analysis_id is not None
    with with_model.write() as session:
        claimed = lifecycle.claim(
            session, first.analysis_id, owner="me", now=NOON, lease=timedelta(minutes=1), max_attempts=3
        )
    assert claimed is not None
    assert claimed.uri == new_instance().uri
    assert DIFFERENT_CONTENT in claimed.flags


def test_image_of_another_patient_in_the_same_study_is_flagged(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        record_instance(session, new_instance(1))
        second = new_instance(2)
        record_instance(session, replace(second, study=replace(second.study, patient_id="P2")))
    with with_model.read() as session:
        flags = list(session.scalars(select(Instance.flags).order_by(Instance.id)))
    assert flags == [[], [f"{OTHER_PATIENT}: ID"]]


def test_two_listeners_with_the_same_instance_record_it_once(with_model: Database, new_instance: Make) -> None:
    outcomes: list[str] = []

    def record() -> None:
        try:
            with with_model.write() as session:
                outcomes.append(record_instance(session, new_instance()).outcome)
        except RecordedElsewhere:
            outcomes.append("elsewhere")

    threads = [threading.Thread(target=record) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("new") == 1
    assert len(outcomes) == 6


def test_everything_is_rolled_back_when_the_block_fails(with_model: Database, new_instance: Make) -> None:
    with pytest.raises(RuntimeError), with_model.write() as session:
        record_instance(session, new_instance())
        raise RuntimeError("power cut")
    with with_model.read() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 0


def test_instance_received_without_a_model_waits_and_gets_work_later(database: Database, new_instance: Make) -> None:
    from db.model_registry import activation
    from tests.db.conftest import MODEL

    with database.write() as session:
        assert record_instance(session, new_instance()).analysis_id is None
        assert create_missing(session, NOON, 10) == 0
    with database.read() as session:
        book = ledger.ledger(session, NOON)
    assert book.pending == 1
    assert [entry.reason for entry in book.unfinished] == ["no model was active when it came"]
    with database.write() as session:
        activation.activate(session, MODEL, NOON)
        assert create_missing(session, NOON, 10) == 1
        assert create_missing(session, NOON, 10) == 0
        assert len(lifecycle.requeue_pending(session, NOON, timedelta(seconds=10), 10)) == 1


def test_refused_transfer_is_counted(database: Database) -> None:
    with database.write() as session:
        record_rejection(session, when=NOON, calling_ae="X", address="::1", status=0xC000, reason="not DICOM")
    with database.read() as session:
        assert ledger.ledger(session, NOON).rejected == 1


def test_ledger_says_how_many_more_are_unfinished_than_it_lists(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        for number in range(1, 8):
            record_instance(session, new_instance(number))
    with with_model.read() as session:
        book = ledger.ledger(session, NOON, limit=3)
        later = ledger.ledger(session, NOON, timedelta(minutes=1), limit=3)
    assert (len(book.unfinished), book.unfinished_total) == (3, 7)
    assert (len(later.unfinished), later.unfinished_total) == (0, 0)
