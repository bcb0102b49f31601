"""The outbox: what must still be sent where, under leases, with counted attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update

from db.engine.leases import LONGEST_WAIT, lease_is_over
from db.engine.session import Session
from db.records import ClaimedDelivery
from db.tables.delivery import Delivery, MadeObject


def claim_batch(
    session: Session, destination: str, *, owner: str, now: datetime, lease: timedelta, limit: int
) -> list[ClaimedDelivery]:
    """Take the lease of up to ``limit`` objects due for ``destination``, oldest first, counting the attempt of each."""
    mine = (
        select(Delivery, MadeObject)
        .join(MadeObject, MadeObject.id == Delivery.object_id)
        .where(Delivery.destination == destination)
        .order_by(Delivery.next_attempt_at, Delivery.id)
        .with_for_update(skip_locked=True, of=Delivery)
    )
    # asked apart, the first is read off an index in its order; with OR, a long outbox would be sorted for every batch
    due = mine.where(Delivery.state == "pending", Delivery.next_attempt_at <= now)
    stranded = mine.where(Delivery.state == "pending", Delivery.next_attempt_at > now + LONGEST_WAIT)
    abandoned = mine.where(Delivery.state == "sending", Delivery.lease_until < now)
    rows = list(session.execute(due.limit(limit)).all())
    for others in (abandoned, stranded):
        rows += session.execute(others.limit(limit - len(rows))).all()
    claimed = []
    for delivery, made in rows:
        delivery.state = "sending"
        delivery.lease_owner = owner
        delivery.lease_until = now + lease
        delivery.attempts += 1
        claimed.append(ClaimedDelivery(delivery.id, made.uri, made.sha256, made.sop_instance_uid, delivery.attempts))
    return claimed


def mark_sent(session: Session, delivery_id: int, owner: str, now: datetime, reason: str = "") -> None:
    """The destination has stored the object (``reason`` keeps a warning status, if it gave one)."""
    _end(session, delivery_id, owner, {"state": "sent", "sent_at": now, "reason": reason})


def mark_retry(session: Session, delivery_id: int, owner: str, *, next_attempt_at: datetime, reason: str) -> None:
    """The destination could not take it now; it is offered again at ``next_attempt_at``."""
    _end(session, delivery_id, owner, {"state": "pending", "next_attempt_at": next_attempt_at, "reason": reason})


def mark_failed(session: Session, delivery_id: int, owner: str, reason: str) -> None:
    """The destination refused the object for good; the status it gave is in ``reason``."""
    _end(session, delivery_id, owner, {"state": "failed", "reason": reason})


def renew(session: Session, delivery_ids: Sequence[int], owner: str, until: datetime) -> None:
    """Hold on to what is claimed and not yet offered, so that a slow destination does not cost the lease."""
    if delivery_ids:
        held = (Delivery.id.in_(delivery_ids), Delivery.state == "sending", Delivery.lease_owner == owner)
        session.execute(update(Delivery).where(*held).values(lease_until=until))


def give_back(session: Session, delivery_id: int, owner: str) -> None:
    """Give back what was claimed but never offered: due at once, and the attempt does not count."""
    _end(session, delivery_id, owner, {"state": "pending", "attempts": Delivery.attempts - 1})


def release_dead(session: Session, is_dead: Callable[[str], bool], now: datetime) -> int:
    """Give back what is leased by processes known to be dead, and what has outlived its lease. Returns how many."""
    freed = 0
    for row in session.scalars(select(Delivery).where(Delivery.state == "sending")):
        if row.lease_owner is None or lease_is_over(row.lease_until, now) or is_dead(row.lease_owner):
            row.state, row.lease_owner, row.lease_until, row.next_attempt_at = "pending", None, None, now
            freed += 1
    return freed


def retry_failed(session: Session, destination: str, now: datetime) -> int:
    """Offer what ``destination`` refused for good once more, after a person has mended the cause. Returns how many."""
    rows = session.scalars(
        select(Delivery).where(Delivery.destination == destination, Delivery.state == "failed")
    ).all()
    for row in rows:
        row.state, row.next_attempt_at = "pending", now
    return len(rows)


def _end(session: Session, delivery_id: int, owner: str, values: dict[str, object]) -> None:
    held = (Delivery.id == delivery_id, Delivery.state == "sending", Delivery.lease_owner == owner)
    session.execute(update(Delivery).where(*held).values(lease_owner=None, lease_until=None, **values))
