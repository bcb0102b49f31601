"""Revisions of an object: only the newest is still sent, what was sent stays sent, and all of it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from db.analysis import lifecycle
from db.delivery import objects, outbox
from db.engine.session import Database, Session, StatementRejected
from db.intake.instances import record_instance
from db.reasons import ReasonCode
from db.records import ClaimedDelivery, NewInstance, ObjectRecord
from db.retention import erasure
from db.tables.delivery import Delivery, MadeObject, ObjectSource
from db.views import ledger
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import NOON, heatmap

LATER = NOON + timedelta(seconds=5)


@pytest.fixture
def first(with_model: Database, new_instance: Callable[..., NewInstance]) -> ObjectRecord:
    """The first revision of a heatmap, recorded and due at ``pacs`` and ``archive``."""
    with with_model.write() as session:
        analysis = record_instance(session, new_instance()).analysis_id
        assert analysis is not None
        claimed = lifecycle.claim(session, analysis, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, result(), NOON)
        made = heatmap(claimed, destinations=("pacs", "archive"))
        objects.record(session, made, NOON)
    return made


def second(first: ObjectRecord) -> ObjectRecord:
    return replace(first, revision=2, inputs_digest="0" * 64, sop_instance_uid="2.25.2")


def claim(session: Session, destination: str = "pacs") -> list[ClaimedDelivery]:
    batch = outbox.claim_batch(session, destination, owner="d", now=LATER, lease=LEASE, limit=9)
    return objects.without_superseded(session, batch)


def states(session: Session) -> set[tuple[int, str, str, str]]:
    rows = session.execute(
        select(MadeObject.revision, Delivery.destination, Delivery.state, Delivery.reason).join(
            MadeObject, MadeObject.id == Delivery.object_id
        )
    )
    return {tuple(row) for row in rows}


def test_newest_revision_is_found_and_its_sources_are_kept(with_model: Database, first: ObjectRecord) -> None:
    with with_model.write() as session:
        assert objects.newest_revision(session, replace(first.key, label="Mass")) == (0, "")
        assert objects.newest_revision(session, first.key) == (1, first.inputs_digest)
        objects.record(session, second(first), LATER)
        assert objects.newest_revision(session, first.key) == (2, "0" * 64)
        assert {tuple(row) for row in session.execute(select(ObjectSource.object_id, ObjectSource.analysis_id))} == {
            (1, first.analyses[0]),
            (2, first.analyses[0]),
        }


def test_older_revision_that_waits_is_superseded_and_one_that_was_sent_stays_sent(
    with_model: Database, first: ObjectRecord
) -> None:
    with with_model.write() as session:
        (item,) = claim(session, "archive")
        outbox.mark_sent(session, item, NOON)
        objects.record(session, second(first), LATER)
    with with_model.write() as session:
        assert states(session) == {
            (1, "pacs", "superseded", "superseded by revision 2"),
            (1, "archive", "sent", ""),
            (2, "pacs", "pending", ""),
            (2, "archive", "pending", ""),
        }
        assert [each.sop_instance_uid for each in claim(session)] == ["2.25.2"]
        counts = {"pending": 2, "sent": 1, "committed": 0, "failed": 0, "superseded": 1}
        assert ledger.ledger(session, NOON).deliveries == counts


def test_older_revision_that_was_under_way_is_not_offered_again(with_model: Database, first: ObjectRecord) -> None:
    with with_model.write() as session:
        (item,) = claim(session)
    with with_model.write() as session:
        objects.record(session, second(first), NOON)
        assert (1, "pacs", "sending", "") in states(session)
        outbox.mark_retry(session, item, next_attempt_at=NOON, reason="A700", code=ReasonCode.PEER_STATUS)
    with with_model.write() as session:
        assert [each.sop_instance_uid for each in claim(session)] == ["2.25.2"]
        assert (1, "pacs", "superseded", "superseded by revision 2") in states(session)


def test_another_label_or_model_supersedes_nothing(with_model: Database, first: ObjectRecord) -> None:
    with with_model.write() as session:
        for number, change in enumerate(({"label": "Mass"}, {"model_digest": "b" * 64}), 2):
            other = replace(second(first), key=replace(first.key, **change), sop_instance_uid=f"2.25.{number}")
            objects.record(session, other, NOON)
        assert len(claim(session)) == 3


def test_superseded_delivery_does_not_keep_its_study(with_model: Database, first: ObjectRecord) -> None:
    with with_model.write() as session:
        objects.record(session, second(first), LATER)
        for destination in ("pacs", "archive"):
            for item in claim(session, destination):
                outbox.mark_sent(session, item, LATER)
        assert len(erasure.removable(session, before=None, limit=9)) == 1


def test_revision_that_another_process_has_written_is_refused_whole(with_model: Database, first: ObjectRecord) -> None:
    with with_model.write() as session:
        objects.record(session, second(first), LATER)
    with pytest.raises(StatementRejected), with_model.write() as session:
        objects.record(session, replace(second(first), sop_instance_uid="2.25.3"), LATER)
    with with_model.read() as session:
        assert len(session.scalars(select(MadeObject.id)).all()) == 2
