"""The outbox: objects still to be sent, by destination, under leases, with counted attempts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, update

from db.engine.leases import RetriedLeases
from db.engine.session import Session, changed_rows
from db.reasons import ReasonCode
from db.records import ClaimedDelivery
from db.tables.delivery import Delivery, MadeObject

_LEASES = RetriedLeases(Delivery, held="sending")


def is_any_due(session: Session, destination: str, now: datetime) -> bool:
    """Whether `claim_batch` would take anything for ``destination``; asked before anything is written."""
    return _LEASES.is_any_due(session, Delivery.destination == destination, now=now)


def claim_batch(
    session: Session, destination: str, *, owner: str, now: datetime, lease: timedelta, limit: int
) -> list[ClaimedDelivery]:
    """Take the lease of up to ``limit`` objects due for ``destination``, oldest first, counting the attempt of each."""
    due = _LEASES.due(session, Delivery.destination == destination, now=now, limit=limit)
    claim, taken = _LEASES.claim(session, due, owner=owner, now=now, lease=lease)
    rows = session.execute(
        select(Delivery.id, MadeObject.uri, MadeObject.sha256, MadeObject.sop_instance_uid, Delivery.attempts)
        .join(MadeObject, MadeObject.id == Delivery.object_id)
        .where(Delivery.id.in_(taken))
    )
    claimed = {row.id: ClaimedDelivery(row.id, claim, *row[1:]) for row in rows}
    return [claimed[number] for number in due if number in claimed]


def mark_sent(session: Session, claimed: ClaimedDelivery, now: datetime, reason: str = "") -> bool:
    """Record that the destination has stored the object; ``reason`` keeps a warning status. False: lease lost."""
    code = ReasonCode.PEER_STATUS if reason else ReasonCode.NONE
    return _LEASES.end(session, claimed, state="sent", sent_at=now, reason=reason, reason_code=code)


def mark_retry(
    session: Session, claimed: ClaimedDelivery, *, next_attempt_at: datetime, reason: str, code: ReasonCode
) -> bool:
    """Record that sending failed for now; it is tried again at ``next_attempt_at``. False: lease lost."""
    return _LEASES.give_back(
        session, claimed, counted=True, next_attempt_at=next_attempt_at, reason=reason, reason_code=code
    )


def mark_failed(session: Session, claimed: ClaimedDelivery, reason: str, code: ReasonCode) -> bool:
    """Record that the destination rejected the object for good, with its status in ``reason``. False: lease lost."""
    return _LEASES.end(session, claimed, state="failed", reason=reason, reason_code=code)


def mark_superseded(session: Session, claimed: ClaimedDelivery, reason: str) -> bool:
    """Record that the object has a newer revision and is not sent any more. False: lease lost."""
    return _LEASES.end(session, claimed, state="superseded", reason=reason, reason_code=ReasonCode.SUPERSEDED)


def renew(session: Session, claimed: Sequence[ClaimedDelivery], until: datetime) -> None:
    """Extend the lease of what is not yet sent, so that a slow destination does not cost it."""
    _LEASES.renew(session, claimed, until)


def give_back(session: Session, claimed: ClaimedDelivery) -> bool:
    """Give back what was claimed and never sent: due at once, and the attempt does not count."""
    return _LEASES.give_back(session, claimed, counted=False)


def release_dead(session: Session, is_dead: Callable[[str], bool], now: datetime) -> int:
    """Free what dead processes hold, and what has outlived its lease; due at once. Returns how many."""
    return _LEASES.release_dead(session, is_dead, now, next_attempt_at=now)


def give_up_removed(session: Session, configured: Collection[str], before: datetime, days: float) -> dict[str, int]:
    """End what waits for destinations that are not configured and that nobody has tried since ``before``.

    A process that serves a destination, on any machine, tries what waits for it every few minutes.

    Returns
    -------
    dict
        How many, by destination.
    """
    ended: dict[str, int] = {}
    name = session.scalar(select(func.min(Delivery.destination)))
    while name is not None:
        if name not in configured:
            reason = f"{name} is no longer configured, and nothing was sent to it for {days:g} days"
            waiting = (Delivery.destination == name, Delivery.state == "pending", Delivery.next_attempt_at < before)
            change = update(Delivery).where(*waiting).values(state="failed", reason=reason)
            ended[name] = changed_rows(session, change.values(reason_code=ReasonCode.DESTINATION_REMOVED))
        # one look into the index a destination, however many rows each has
        name = session.scalar(select(func.min(Delivery.destination)).where(Delivery.destination > name))
    return {name: number for name, number in ended.items() if number}


def retry_failed(session: Session, destination: str, now: datetime) -> int:
    """Make what ``destination`` rejected for good due again, once the cause is resolved. Returns how many."""
    rows = session.scalars(
        select(Delivery).where(Delivery.destination == destination, Delivery.state == "failed")
    ).all()
    for row in rows:
        row.state, row.next_attempt_at = "pending", now
    return len(rows)
