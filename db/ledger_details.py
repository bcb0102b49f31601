"""What stands behind the ledger's counts: transfers refused by the listener, and deliveries with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, func, select

from db.session import Session
from db.tables import Delivery, Instance, MadeObject, Rejection


@dataclass(frozen=True)
class RefusedTransfer:
    rejected_at: datetime
    calling_ae: str
    address: str
    status: int
    reason: str


@dataclass(frozen=True)
class OpenDelivery:
    destination: str
    state: str
    reason: str
    attempts: int
    next_attempt_at: datetime
    sop_instance_uid: str
    kind: str
    label: str


@dataclass(frozen=True)
class LedgerDetails:
    """``instances`` is counted by itself, without gate or analysis, so that the ledger's sum can be held against it."""

    instances: int
    rejections: tuple[RefusedTransfer, ...]
    rejected: int
    by_destination: dict[str, dict[str, int]]
    open_deliveries: tuple[OpenDelivery, ...]


def ledger_details(session: Session, limit: int = 100) -> LedgerDetails:
    """Return the newest refused transfers, and the deliveries that failed or are on their way; ``limit`` of each."""
    rejections = session.scalars(select(Rejection).order_by(Rejection.id.desc()).limit(limit))
    by_destination: dict[str, dict[str, int]] = {}
    for destination, state, number in session.execute(
        select(Delivery.destination, Delivery.state, func.count())
        .group_by(Delivery.destination, Delivery.state)
        .order_by(Delivery.destination)
    ):
        by_destination.setdefault(destination, {})[state] = int(number)
    failed_first = case((Delivery.state == "failed", 0), else_=1)
    unsent = session.execute(
        select(Delivery, MadeObject)
        .join(MadeObject, MadeObject.id == Delivery.object_id)
        .where(Delivery.state.in_(("pending", "sending", "failed")))
        .order_by(failed_first, Delivery.id)
        .limit(limit)
    )
    return LedgerDetails(
        instances=_count(session, select(func.count()).select_from(Instance).where(Instance.origin == "live")),
        rejections=tuple(
            RefusedTransfer(row.rejected_at, row.calling_ae, row.address, row.status, row.reason) for row in rejections
        ),
        rejected=_count(session, select(func.count()).select_from(Rejection)),
        by_destination=by_destination,
        open_deliveries=tuple(
            OpenDelivery(
                row.destination,
                row.state,
                row.reason,
                row.attempts,
                row.next_attempt_at,
                made.sop_instance_uid,
                made.kind,
                made.label,
            )
            for row, made in unsent
        ),
    )


def _count(session: Session, statement: Select[Any]) -> int:
    return int(session.scalar(statement) or 0)
