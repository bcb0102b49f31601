"""Forgetting leaves no row and no file, and neither it nor retention takes what is still owed to somebody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from db.analysis.lifecycle import claim, complete
from db.delivery import objects, outbox
from db.engine.session import Database
from db.intake.instances import record_instance
from db.reasons import ReasonCode
from db.records import NewInstance
from db.retention import erasure
from db.tables.audit import Erasure
from db.tables.base import Base, Installation
from db.tables.delivery import Delivery
from db.tables.model_registry import Model, ModelRouting
from db.tables.tallies import Tally
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import NOON, heatmap

Make = Callable[..., NewInstance]


@pytest.fixture
def read_study(with_model: Database, new_instance: Make) -> Database:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance())
        assert recorded.analysis_id is not None
        claimed = claim(session, recorded.analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        complete(session, claimed, result(), NOON)
        objects.record(session, heatmap(claimed), NOON)
    return with_model


def deliver(database: Database) -> None:
    with database.write() as session:
        for item in outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=9):
            outbox.mark_sent(session, item, NOON)


def test_erasing_a_study_leaves_no_row_but_the_audit_and_names_every_file(read_study: Database) -> None:
    with read_study.write() as session:
        (study_id,) = erasure.studies_of(session, patient_id="P1")
        record = erasure.erase(session, study_id, requested_by="somebody", reason="request", now=NOON)
    assert (record.instances, record.objects) == (1, 1)
    assert set(record.uris) == {"store:aa/bb/1.dcm", "store:o"}
    with read_study.read() as session:
        for table in Base.metadata.sorted_tables:
            if table.name == Tally.__tablename__:  # changes of counts, which add up to nothing
                sums = select(Tally.kind, Tally.name, Tally.detail, func.sum(Tally.number)).group_by(
                    Tally.kind, Tally.name, Tally.detail
                )
                assert {(*names, number) for *names, number in session.execute(sums) if number} == set()
                continue
            is_kept = table.name in {each.__tablename__ for each in (Erasure, Installation, Model, ModelRouting)}
            assert session.scalar(select(func.count()).select_from(table)) == is_kept, table.name
        audit = session.scalars(select(Erasure)).one()
        assert "1.2.1" not in audit.subject
        assert [entry.id for entry in erasure.unfinished(session)] == [record.id]
    with read_study.write() as session:
        erasure.finish(session, record.id, NOON)
    with read_study.read() as session:
        assert erasure.unfinished(session) == []
        assert session.scalars(select(Erasure)).one().uris == []


def test_other_studies_are_untouched(read_study: Database, new_instance: Make) -> None:
    with read_study.write() as session:
        record_instance(session, new_instance(2, study=2))
        (first,) = erasure.studies_of(session, study_instance_uid="1.2.1")
        erasure.erase(session, first, requested_by="somebody", reason="request", now=NOON)
        assert erasure.studies_of(session, study_instance_uid="1.2.1") == []
        assert len(erasure.studies_of(session, study_instance_uid="1.2.2")) == 1
        assert erasure.referenced(session, "store:aa/bb/2.dcm")
        assert not erasure.referenced(session, "store:aa/bb/1.dcm")


def test_undelivered_study_is_never_removable(read_study: Database) -> None:
    with read_study.read() as session:
        assert erasure.removable(session, before=None, limit=9) == []
    deliver(read_study)
    with read_study.read() as session:
        assert len(erasure.removable(session, before=None, limit=9)) == 1


def test_delivery_that_failed_keeps_its_study(read_study: Database) -> None:
    with read_study.write() as session:
        (item,) = outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=9)
        outbox.mark_failed(session, item, "A900", ReasonCode.PEER_STATUS)
        assert erasure.removable(session, before=None, limit=9) == []


def test_unread_study_is_never_removable(database: Database, with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        record_instance(session, new_instance())
        assert erasure.removable(session, before=None, limit=9) == []


def test_image_that_waits_for_a_model_keeps_its_study(database: Database, new_instance: Make) -> None:
    with database.write() as session:
        record_instance(session, new_instance())
        assert erasure.removable(session, before=None, limit=9) == []


def test_age_counts_from_the_last_image(read_study: Database, new_instance: Make) -> None:
    deliver(read_study)
    with read_study.read() as session:
        assert erasure.removable(session, before=NOON, limit=9) == []
        assert len(erasure.removable(session, before=NOON + timedelta(seconds=1), limit=9)) == 1
    with read_study.write() as session:
        record_instance(session, new_instance(2, accepted=False, received_at=NOON + timedelta(days=3)))
        assert erasure.removable(session, before=NOON + timedelta(days=1), limit=9) == []


def test_what_waits_for_a_destination_that_was_removed_is_given_up_and_keeps_no_study(read_study: Database) -> None:
    week = timedelta(days=7)
    with read_study.write() as session:
        assert outbox.give_up_removed(session, {"archive"}, NOON, 7) == {}, "it was tried a moment ago"
        assert outbox.give_up_removed(session, {"pacs"}, NOON + week, 7) == {}, "it is configured"
        assert outbox.give_up_removed(session, {"archive"}, NOON + week, 7) == {"pacs": 1}
        row = session.scalars(select(Delivery)).one()
        assert (row.state, row.reason_code) == ("failed", ReasonCode.DESTINATION_REMOVED)
        assert row.reason == "pacs is no longer configured, and nothing was sent to it for 7 days"
        assert len(erasure.removable(session, before=None, limit=9)) == 1
    with read_study.write() as session:  # it is configured again
        assert outbox.retry_failed(session, "pacs", NOON) == 1
        assert erasure.removable(session, before=None, limit=9) == []
