"""A clock that ran ahead and was set back holds nothing up until it gets there again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import update

from db.analysis import lifecycle
from db.delivery import outbox
from db.engine.session import Database
from db.intake.instances import record_instance
from db.records import NewInstance
from db.tables.analyses import Analysis
from db.tables.delivery import Delivery, MadeObject
from tests.db.conftest import NOON

AHEAD = NOON + timedelta(days=2)
LEASE = timedelta(minutes=2)


def test_analysis_rung_or_leased_in_the_future_is_rung_and_freed_now(
    with_model: Database, new_instance: Callable[..., NewInstance]
) -> None:
    with with_model.write() as session:
        identity = record_instance(session, new_instance(received_at=AHEAD)).analysis_id
    assert identity is not None
    with with_model.write() as session:
        assert lifecycle.requeue_pending(session, NOON, LEASE, 10) == [identity]
        assert lifecycle.requeue_pending(session, NOON, LEASE, 10) == [], "once, not for ever"
        lifecycle.claim(session, identity, owner="elsewhere", now=AHEAD, lease=LEASE, max_attempts=3)
    with with_model.write() as session:
        assert lifecycle.release_dead(session, lambda _owner: False, NOON) == 1
        assert lifecycle.claim(session, identity, owner="me", now=NOON, lease=LEASE, max_attempts=3)


def test_delivery_due_or_leased_in_the_future_is_offered_now(
    with_model: Database, new_instance: Callable[..., NewInstance]
) -> None:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance())
        made = dict.fromkeys(("kind", "subject_uid", "model_digest", "preprocessing_id", "label", "variant"), "")
        row = MadeObject(
            **made,
            revision=1,
            study_id=1,
            analysis_id=recorded.analysis_id,
            sop_instance_uid="1.2.9",
            uri="store:x",
            sha256="0" * 64,
            size=1,
            created_at=NOON,
        )
        session.add(row)
        session.flush()
        session.add(
            Delivery(object_id=row.id, destination="pacs", state="pending", next_attempt_at=AHEAD, created_at=NOON)
        )
    options = {"owner": "d", "lease": LEASE, "limit": 9}
    with with_model.write() as session:
        assert len(outbox.claim_batch(session, "pacs", now=NOON, **options)) == 1  # type: ignore[arg-type]
        session.execute(update(Delivery).values(lease_until=AHEAD, lease_owner="elsewhere"))
        assert outbox.release_dead(session, lambda _owner: False, NOON) == 1
        assert len(outbox.claim_batch(session, "pacs", now=NOON, **options)) == 1  # type: ignore[arg-type]


def test_what_is_due_soon_is_not_offered_early(with_model: Database, new_instance: Callable[..., NewInstance]) -> None:
    with with_model.write() as session:
        record_instance(session, new_instance(received_at=NOON + timedelta(seconds=5)))
        session.execute(update(Analysis).values(enqueued_at=NOON + timedelta(seconds=5)))
        assert lifecycle.requeue_pending(session, NOON, LEASE, 10) == []
