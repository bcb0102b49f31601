"""What stands behind the ledger's counts: transfers refused, deliveries and commitments not yet at their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from db.delivery.commitment_requests import UnreportedRequests, unreported
from db.engine.session import Session
from db.engine.tallies import tallies
from db.intake.rejected_transfers import rejected
from db.tables.audit import Rejection
from db.tables.delivery import Delivery, MadeObject
from db.tables.studies import Instance, Study

_OPEN = ("pending", "sending", "failed")
_LOOKED_AT = 500  # deliveries of one destination in one state, which takes some milliseconds


@dataclass(frozen=True)
class RefusedTransfer:
    """Refusals of one sender for one reason within an hour; ``rejected_at`` is when the last one was."""

    rejected_at: datetime
    number: int
    calling_ae: str
    address: str
    status: int
    reason: str


@dataclass(frozen=True)
class OpenDeliveries:
    """Objects that one destination has not stored, for one reason."""

    destination: str
    state: str
    reason: str
    number: int
    attempts: int  # of the one tried most often
    next_attempt_at: datetime
    oldest_study: str
    is_all: bool = True  # else the number is of those that are due first


@dataclass(frozen=True)
class LedgerDetails:
    """``instances`` is counted by gate decisions, not by states, so that the ledger's sum can be held against it."""

    instances: int
    rejections: tuple[RefusedTransfer, ...]
    rejected: int
    by_destination: dict[str, dict[str, int]]
    open_deliveries: tuple[OpenDeliveries, ...]
    unreported: tuple[UnreportedRequests, ...]


def ledger_details(session: Session, limit: int = 100) -> LedgerDetails:
    """Return the newest refused transfers, and deliveries and commitments that failed or wait; ``limit`` rows each."""
    rejections = session.scalars(select(Rejection).order_by(Rejection.last_at.desc(), Rejection.id.desc()).limit(limit))
    kept = tallies(session, "delivery", "accepted", "refused")
    by_destination: dict[str, dict[str, int]] = {}
    for (destination, state), number in sorted(kept["delivery"].items()):
        by_destination.setdefault(destination, {})[state] = number
    return LedgerDetails(
        instances=sum(kept["accepted"].values()) + sum(kept["refused"].values()),
        rejections=tuple(
            RefusedTransfer(row.last_at, row.number, row.calling_ae, row.address, row.status, row.reason)
            for row in rejections
        ),
        rejected=rejected(session),
        by_destination=by_destination,
        open_deliveries=_open_deliveries(session, by_destination, limit),
        unreported=unreported(session, limit),
    )


def _open_deliveries(
    session: Session, by_destination: dict[str, dict[str, int]], limit: int
) -> tuple[OpenDeliveries, ...]:
    found: list[OpenDeliveries] = []
    for destination, states in by_destination.items():
        for state in states.keys() & set(_OPEN):
            # what is due first: a destination that is away for days has more than a page can look at
            first = (
                select(Delivery)
                .where(Delivery.destination == destination, Delivery.state == state)
                .order_by(Delivery.next_attempt_at, Delivery.id)
                .limit(_LOOKED_AT)
                .subquery()
            )
            groups = (
                select(
                    first.c.reason,
                    func.count().label("number"),
                    func.max(first.c.attempts).label("attempts"),
                    func.min(first.c.next_attempt_at).label("next_attempt_at"),
                    func.min(first.c.object_id).label("oldest"),
                )
                .group_by(first.c.reason)
                .subquery()
            )
            rows = session.execute(
                select(groups, Study.study_instance_uid)
                .join(MadeObject, MadeObject.id == groups.c.oldest)
                .join(Study, Study.id == MadeObject.study_id)
            )
            found += (
                OpenDeliveries(
                    destination,
                    state,
                    row.reason,
                    row.number,
                    row.attempts,
                    row.next_attempt_at,
                    row.study_instance_uid,
                    is_all=states[state] <= _LOOKED_AT,
                )
                for row in rows
            )
    found.sort(key=lambda each: (each.state != "failed", -each.number, each.destination, each.reason))
    return tuple(found[:limit])


def studies_of(session: Session, sop_instance_uids: Sequence[str]) -> dict[str, str]:
    """Return the Study Instance UID of each of these received images."""
    rows = session.execute(
        select(Instance.sop_instance_uid, Study.study_instance_uid)
        .join(Study, Study.id == Instance.study_id)
        .where(Instance.sop_instance_uid.in_(sop_instance_uids))
    )
    return {str(image): str(study) for image, study in rows}
