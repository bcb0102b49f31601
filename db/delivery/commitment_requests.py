"""Requests for storage commitment: recorded, held under a lease while their outcome is reported, and ended once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from db.engine.leases import LONGEST_WAIT, RetriedLeases
from db.engine.session import Session
from db.engine.tallies import tallies
from db.reasons import ReasonCode
from db.tables.delivery import Commitment
from db.tables.studies import Instance, Location

STATES = ("pending", "reporting", "reported", "failed")
_LEASES = RetriedLeases(Commitment, held="reporting")
_LOOKED_AT = 500
_AT_ONCE = 500  # UIDs a query; SQLite takes some thousands of parameters


@dataclass(frozen=True)
class ClaimedCommitment:
    """One request under lease; ``instances`` are (SOP class UID, SOP instance UID) each."""

    id: int
    claim: str  # the token that ends the lease
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
    """Record a request and return its id; the same transaction of the same requester, repeated, begins anew."""
    begun = {
        "address": address,
        "instances": [list(each) for each in instances],
        "state": "pending",
        "reason": "",
        "reason_code": ReasonCode.NONE,
        "attempts": 0,
        "next_attempt_at": due,
        "lease_owner": None,
        "lease_until": None,
        "finished_at": None,
        "requested_at": now,
        "committed": 0,
        "refused": 0,
    }
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    request = insert(Commitment).values(calling_ae=calling_ae, transaction_uid=transaction_uid, **begun)
    # on two associations at once, to two listeners, too
    key = [Commitment.calling_ae, Commitment.transaction_uid]
    return session.execute(
        request.on_conflict_do_update(index_elements=key, set_=begun).returning(Commitment.id)
    ).scalar_one()


def is_any_open(session: Session, now: datetime) -> bool:
    """Whether a request is due, or under a lease; asked before anything is written."""
    due = or_(Commitment.next_attempt_at <= now, Commitment.next_attempt_at > now + LONGEST_WAIT)
    open_ones = or_((Commitment.state == "pending") & due, Commitment.state == "reporting")
    return session.scalar(select(Commitment.id).where(open_ones).limit(1)) is not None


def claim_due(session: Session, *, owner: str, now: datetime, lease: timedelta, limit: int) -> list[ClaimedCommitment]:
    """Take the lease of up to ``limit`` requests that are due, oldest first, counting the attempt of each."""
    return _claim(session, _LEASES.due(session, now=now, limit=limit), owner, now, lease)


def claim(session: Session, number: int, *, owner: str, now: datetime, lease: timedelta) -> ClaimedCommitment | None:
    """Take the lease of one request, due or not; None where another claim holds it or it has ended."""
    return next(iter(_claim(session, [number], owner, now, lease)), None)


def _claim(
    session: Session, numbers: list[int], owner: str, now: datetime, lease: timedelta
) -> list[ClaimedCommitment]:
    token, taken = _LEASES.claim(session, numbers, owner=owner, now=now, lease=lease)
    rows = session.scalars(
        select(Commitment)
        .where(Commitment.id.in_(taken))
        .order_by(Commitment.next_attempt_at, Commitment.id)
        .execution_options(populate_existing=True)
    )
    return [
        ClaimedCommitment(
            id=row.id,
            claim=token,
            transaction_uid=row.transaction_uid,
            calling_ae=row.calling_ae,
            instances=tuple((sop_class, instance) for sop_class, instance in row.instances),
            attempts=row.attempts,
            requested_at=row.requested_at,
        )
        for row in rows
    ]


def renew(session: Session, claimed: ClaimedCommitment, until: datetime) -> bool:
    """Extend the lease of a request whose files are checked, or whose outcome is to be sent. False: lease lost."""
    return _LEASES.renew(session, [claimed], until) == 1


def mark_reported(session: Session, claimed: ClaimedCommitment, now: datetime, committed: int, refused: int) -> bool:
    """Record that the requester has acknowledged the outcome. False: lease lost."""
    known = {"committed": committed, "refused": refused, "reason": "", "reason_code": ReasonCode.NONE}
    return _LEASES.end(session, claimed, state="reported", finished_at=now, instances=[], **known)


def mark_retry(
    session: Session, claimed: ClaimedCommitment, *, next_attempt_at: datetime, reason: str, code: ReasonCode
) -> bool:
    """Record that the outcome could not be found or reported; tried again at ``next_attempt_at``. False: lease lost."""
    return _LEASES.give_back(
        session, claimed, counted=True, next_attempt_at=next_attempt_at, reason=reason, reason_code=code
    )


def mark_failed(session: Session, claimed: ClaimedCommitment, now: datetime, reason: str, code: ReasonCode) -> bool:
    """Give a request up: its outcome was never reported, and its requester will ask again. False: lease lost."""
    return _LEASES.end(session, claimed, state="failed", finished_at=now, reason=reason, reason_code=code, instances=[])


def give_back(session: Session, claimed: ClaimedCommitment, due: datetime) -> bool:
    """Give back what was claimed and not tried; the attempt does not count."""
    return _LEASES.give_back(session, claimed, counted=False, next_attempt_at=due)


def release_dead(session: Session, is_dead: Callable[[str], bool], now: datetime) -> int:
    """Free what dead processes hold, and what has outlived its lease; due at once. Returns how many."""
    return _LEASES.release_dead(session, is_dead, now, next_attempt_at=now)


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
    for (state, _), number in tallies(session, "commitment")["commitment"].items():
        found[state] = number
    return found


def ledger_counts(session: Session) -> dict[str, int]:
    """Return the counts under the ledger's keys: ``asked`` is the sum of what waits, was reported and has failed."""
    found = counts(session)
    waiting = found["pending"] + found["reporting"]
    return {
        "asked": sum(found.values()),
        "waiting": waiting,
        "reported": found["reported"],
        "failed": found["failed"],
    }


def oldest_open(session: Session) -> datetime | None:
    """Return when the oldest request that still waits was made; None where none waits."""
    return session.scalar(
        select(func.min(Commitment.requested_at)).where(Commitment.state.in_(("pending", "reporting")))
    )


@dataclass(frozen=True)
class UnreportedRequests:
    """Requests of one requester whose outcome was not reported to it, for one reason."""

    calling_ae: str
    state: str
    reason: str
    number: int
    attempts: int  # of the one tried most often
    oldest: datetime


def unreported(session: Session, limit: int) -> tuple[UnreportedRequests, ...]:
    """Return what failed or waits, by requester and reason, at most ``limit``; the failed ones first.

    Of each state the newest five hundred are looked at: a requester whose address is unknown fails for ever.
    """
    found: list[UnreportedRequests] = []
    for state in ("failed", "pending", "reporting"):
        newest = (
            select(Commitment)
            .where(Commitment.state == state)
            .order_by(Commitment.next_attempt_at.desc())
            .limit(_LOOKED_AT)
            .subquery()
        )
        rows = session.execute(
            select(
                newest.c.calling_ae,
                newest.c.state,
                newest.c.reason,
                func.count(),
                func.max(newest.c.attempts),
                func.min(newest.c.requested_at),
            )
            .group_by(newest.c.calling_ae, newest.c.state, newest.c.reason)
            .order_by(func.count().desc(), newest.c.calling_ae)
            .limit(limit)
        )
        found += (UnreportedRequests(*row) for row in rows)
    return tuple(found[:limit])
