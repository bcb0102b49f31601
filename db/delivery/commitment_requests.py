"""Requests for storage commitment: taken, held under a lease while their outcome is reported, and ended once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update

from db.engine.session import Session
from db.tables.delivery import Commitment
from db.tables.studies import Instance, Location

STATES = ("pending", "reporting", "reported", "failed")
_AT_ONCE = 500  # UIDs a query; SQLite takes some thousands of parameters


@dataclass(frozen=True)
class ClaimedCommitment:
    """One request under lease; ``instances`` are (SOP class UID, SOP instance UID) each."""

    id: int
    transaction_uid: str
    calling_ae: str
    instances: tuple[tuple[str, str], ...]
    attempts: int
    requested_at: datetime


@dataclass(frozen=True)
class Kept:
    """What the database has of an instance: its class, and (uri, sha256) of every copy of it."""

    sop_class_uid: str
    copies: tuple[tuple[str, str], ...]


def record(
    session: Session,
    *,
    transaction_uid: str,
    calling_ae: str,
    address: str,
    instances: Sequence[tuple[str, str]],
    now: datetime,
    due: datetime,
) -> int:
    """Take a request; the same transaction of the same requester asked for again is begun anew. Returns its id."""
    row = session.scalar(
        select(Commitment).where(Commitment.calling_ae == calling_ae, Commitment.transaction_uid == transaction_uid)
    )
    if row is None:
        row = Commitment(calling_ae=calling_ae, transaction_uid=transaction_uid)
        session.add(row)
    row.address, row.instances = address, [list(each) for each in instances]
    row.state, row.reason, row.attempts, row.next_attempt_at = "pending", "", 0, due
    row.lease_owner, row.lease_until, row.finished_at = None, None, None
    row.requested_at, row.committed, row.refused = now, 0, 0
    session.flush()
    return row.id


def is_any_open(session: Session, now: datetime) -> bool:
    """Whether a request is due, or under a lease; asked before anything is written."""
    open_ones = or_(
        (Commitment.state == "pending") & (Commitment.next_attempt_at <= now), Commitment.state == "reporting"
    )
    return session.scalar(select(Commitment.id).where(open_ones).limit(1)) is not None


def claim_due(session: Session, *, owner: str, now: datetime, lease: timedelta, limit: int) -> list[ClaimedCommitment]:
    """Take the lease of up to ``limit`` requests that are due, oldest first, counting the attempt of each."""
    rows = session.scalars(
        select(Commitment)
        .where(Commitment.state == "pending", Commitment.next_attempt_at <= now)
        .order_by(Commitment.next_attempt_at, Commitment.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    return [_claimed(row, owner, now + lease) for row in rows]


def claim(session: Session, number: int, *, owner: str, now: datetime, lease: timedelta) -> ClaimedCommitment | None:
    """Take the lease of one request, due or not; None where another has it or it has ended."""
    row = session.scalar(
        select(Commitment)
        .where(Commitment.id == number, Commitment.state == "pending")
        .with_for_update(skip_locked=True)
    )
    return None if row is None else _claimed(row, owner, now + lease)


def _claimed(row: Commitment, owner: str, until: datetime) -> ClaimedCommitment:
    row.state, row.lease_owner, row.lease_until = "reporting", owner, until
    row.attempts += 1
    instances = tuple((sop_class, instance) for sop_class, instance in row.instances)
    return ClaimedCommitment(row.id, row.transaction_uid, row.calling_ae, instances, row.attempts, row.requested_at)


def renew(session: Session, number: int, owner: str, until: datetime) -> None:
    """Hold on to a request whose many files are still being looked at."""
    held = (Commitment.id == number, Commitment.state == "reporting", Commitment.lease_owner == owner)
    session.execute(update(Commitment).where(*held).values(lease_until=until))


def mark_reported(session: Session, number: int, owner: str, now: datetime, committed: int, refused: int) -> None:
    """The requester has acknowledged the outcome."""
    _end(session, number, owner, state="reported", finished_at=now, committed=committed, refused=refused, instances=[])


def mark_retry(session: Session, number: int, owner: str, *, next_attempt_at: datetime, reason: str) -> None:
    """The outcome could not be found, or not be reported; tried again at ``next_attempt_at``."""
    _end(session, number, owner, state="pending", next_attempt_at=next_attempt_at, reason=reason)


def mark_failed(session: Session, number: int, owner: str, now: datetime, reason: str) -> None:
    """Given up: the requester was never told, and will ask again or keep what it has."""
    _end(session, number, owner, state="failed", finished_at=now, reason=reason, instances=[])


def give_back(session: Session, number: int, owner: str, due: datetime) -> None:
    """Give back what was claimed and not tried; the attempt does not count."""
    _end(session, number, owner, state="pending", next_attempt_at=due, attempts=Commitment.attempts - 1)


def release_dead(session: Session, is_dead: Callable[[str], bool], now: datetime) -> int:
    """Give back what is leased by processes known to be dead, and what has outlived its lease. Returns how many."""
    freed = 0
    for row in session.scalars(select(Commitment).where(Commitment.state == "reporting")):
        if row.lease_owner is None or row.lease_until is None or row.lease_until < now or is_dead(row.lease_owner):
            row.state, row.lease_owner, row.lease_until, row.next_attempt_at = "pending", None, None, now
            freed += 1
    return freed


def kept(session: Session, sop_instance_uids: Iterable[str]) -> dict[str, Kept]:
    """Return what the database has of these instances, by their UID; those it does not have are left out."""
    wanted = list(dict.fromkeys(sop_instance_uids))
    found: dict[str, Kept] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        rows = session.execute(
            select(Instance.sop_instance_uid, Instance.sop_class_uid, Location.uri, Location.sha256)
            .join(Location, Location.instance_id == Instance.id)
            .where(Instance.sop_instance_uid.in_(wanted[start : start + _AT_ONCE]))
        )
        for uid, sop_class, uri, sha256 in rows:
            before = found.get(str(uid), Kept(sop_class, ()))
            found[str(uid)] = Kept(sop_class, (*before.copies, (uri, sha256)))
    return found


def counts(session: Session) -> dict[str, int]:
    """Return how many requests stand where, all of `STATES`."""
    found = dict.fromkeys(STATES, 0)
    for state, number in session.execute(select(Commitment.state, func.count()).group_by(Commitment.state)):
        found[state] = int(number)
    return found


def ledger_counts(session: Session) -> dict[str, int]:
    """Return the counts in the words of the ledger: what was asked is what waits, was reported and has failed."""
    found = counts(session)
    waiting = found["pending"] + found["reporting"]
    return {
        "asked": sum(found.values()),
        "waiting": waiting,
        "reported": found["reported"],
        "failed": found["failed"],
    }


def oldest_open(session: Session) -> datetime | None:
    """Return since when the request waits that waits longest; None where none waits."""
    return session.scalar(
        select(func.min(Commitment.requested_at)).where(Commitment.state.in_(("pending", "reporting")))
    )


@dataclass(frozen=True)
class UnreportedRequests:
    """Requests of one requester whose outcome it does not know, for one reason."""

    calling_ae: str
    state: str
    reason: str
    number: int
    attempts: int  # of the one tried most often
    oldest: datetime


def unreported(session: Session, limit: int) -> tuple[UnreportedRequests, ...]:
    """Return what failed or waits, by requester and reason, at most ``limit``; the failed ones first."""
    rows = session.execute(
        select(
            Commitment.calling_ae,
            Commitment.state,
            Commitment.reason,
            func.count(),
            func.max(Commitment.attempts),
            func.min(Commitment.requested_at),
        )
        .where(Commitment.state != "reported")
        .group_by(Commitment.calling_ae, Commitment.state, Commitment.reason)
        .order_by(Commitment.state, func.count().desc(), Commitment.calling_ae)  # failed, pending, reporting
        .limit(limit)
    )
    return tuple(UnreportedRequests(*row) for row in rows)


def _end(session: Session, number: int, owner: str, **values: object) -> None:
    held = (Commitment.id == number, Commitment.state == "reporting", Commitment.lease_owner == owner)
    session.execute(update(Commitment).where(*held).values(lease_owner=None, lease_until=None, **values))
