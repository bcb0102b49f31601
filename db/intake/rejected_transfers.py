"""Transfers that were answered with a failure: one row for the same refusal of the same sender within an hour.

A modality that keeps trying, or a flood, must neither vanish from sight nor fill the table.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from db.engine.session import Session
from db.engine.tallies import tallies
from db.tables.audit import Rejection

_HOUR = 3600


def record_rejection(
    session: Session, *, when: datetime, calling_ae: str, address: str, status: int, reason: str
) -> None:
    """Remember a refused transfer; the same again within the hour raises the number of the row that is there."""
    hour = int(when.timestamp()) // _HOUR
    key = hashlib.sha256("\0".join((str(hour), calling_ae, address, str(status), reason)).encode()).hexdigest()
    insert = postgresql.insert if session.connection().dialect.name == "postgresql" else sqlite.insert
    session.execute(
        insert(Rejection)
        .values(
            key=key,
            rejected_at=when,
            last_at=when,
            number=1,
            calling_ae=calling_ae,
            address=address,
            status=status,
            reason=reason,
        )
        .on_conflict_do_update(index_elements=[Rejection.key], set_={"number": Rejection.number + 1, "last_at": when})
    )


def rejected(session: Session) -> int:
    """Return how many transfers were refused, as far as they are still kept."""
    return sum(tallies(session, "rejection")["rejection"].values())


def prune_rejections(session: Session, *, before: datetime, most: int) -> int:
    """Delete rows last added to before ``before``, and the oldest beyond ``most`` rows. Returns how many rows."""
    doomed = [Rejection.last_at < before]
    newest = session.scalar(select(Rejection.id).order_by(Rejection.id.desc()).offset(most).limit(1))
    if newest is not None:
        doomed.append(Rejection.id <= newest)
    return len(session.execute(delete(Rejection).where(or_(*doomed)).returning(Rejection.id)).all())
