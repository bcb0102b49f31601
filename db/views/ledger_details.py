"""What stands behind the ledger's counts: transfers refused, deliveries and commitments not yet at their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, func, select

from db.delivery.commitment_requests import UnreportedRequests, unreported
from db.engine.session import Session
from db.intake.rejected_transfers import rejected
from db.tables.audit import Rejection
from db.tables.delivery import Delivery, MadeObject
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Study


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
    by_destination: dict[str, dict[str, int]] = {}
    for destination, state, number in session.execute(
        select(Delivery.destination, Delivery.state, func.count())
        .group_by(Delivery.destination, Delivery.state)
        .order_by(Delivery.destination)
    ):
        by_destination.setdefault(destination, {})[state] = int(number)
    failed_first = case((Delivery.state == "failed", 0), else_=1)
    unsent = (
        select(
            Delivery.destination,
            Delivery.state,
            Delivery.reason,
            func.count().label("number"),
            func.max(Delivery.attempts).label("attempts"),
            func.min(Delivery.next_attempt_at).label("next_attempt_at"),
            func.min(Delivery.object_id).label("oldest"),
        )
        .where(Delivery.state.in_(("pending", "sending", "failed")))
        .group_by(Delivery.destination, Delivery.state, Delivery.reason)
        .order_by(failed_first, func.count().desc(), Delivery.destination)
        .limit(limit)
        .subquery()
    )
    open_rows = session.execute(
        select(unsent, Study.study_instance_uid)
        .join(MadeObject, MadeObject.id == unsent.c.oldest)
        .join(Study, Study.id == MadeObject.study_id)
        .order_by(case((unsent.c.state == "failed", 0), else_=1), unsent.c.number.desc(), unsent.c.destination)
    )
    return LedgerDetails(
        instances=_count(
            session, select(func.count()).where(GateDecision.origin == "live", GateDecision.current.is_(True))
        ),
        rejections=tuple(
            RefusedTransfer(row.last_at, row.number, row.calling_ae, row.address, row.status, row.reason)
            for row in rejections
        ),
        rejected=rejected(session),
        by_destination=by_destination,
        open_deliveries=tuple(
            OpenDeliveries(destination, state, reason, number, attempts, next_attempt_at, study)
            for destination, state, reason, number, attempts, next_attempt_at, _oldest, study in open_rows
        ),
        unreported=unreported(session, limit),
    )


def studies_of(session: Session, sop_instance_uids: Sequence[str]) -> dict[str, str]:
    """Return the Study Instance UID of each of these received images."""
    rows = session.execute(
        select(Instance.sop_instance_uid, Study.study_instance_uid)
        .join(Study, Study.id == Instance.study_id)
        .where(Instance.sop_instance_uid.in_(sop_instance_uids))
    )
    return {str(image): str(study) for image, study in rows}


def _count(session: Session, statement: Select[Any]) -> int:
    return int(session.scalar(statement) or 0)
