"""How much waits to be read: asked on the way in, so its cost is bounded by the limit and never by the archive."""

from __future__ import annotations

from sqlalchemy import Select, func, select

from db.engine.session import Session
from db.tables.analyses import Analysis
from db.tables.studies import Instance


def backlog(session: Session, most: int) -> int:
    """Return how many live images wait or are being read, counted up to ``most``."""
    return int(session.scalar(select(func.count()).select_from(_unread().limit(most).subquery())) or 0)


def backlog_reaches(session: Session, number: int) -> bool:
    """Whether at least ``number`` (1 or more) live images wait or are being read."""
    return session.scalar(_unread().offset(number - 1).limit(1)) is not None


def _unread() -> Select[int]:
    return (
        select(Analysis.id)
        .join(Instance, Instance.id == Analysis.instance_id)
        .where(Analysis.state.in_(("pending", "running")), Instance.origin == "live")
    )
