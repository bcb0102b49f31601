"""Processes: each has a row from its start, writes a heartbeat into it, and marks it stopped at an orderly end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update

from db.engine.session import Session, changed_rows
from db.tables.processes import Process


@dataclass(frozen=True)
class ProcessIdentity:
    """What tells one process from every other.

    Attributes
    ----------
    name
        Of the service, such as ``listen``.
    host, boot
        Its machine, and the machine's start and process-id namespace (empty where the system reports none).
    pid, pid_start
        Its process id, and its start in clock ticks since boot, as process ids are used again.
    """

    name: str
    host: str
    boot: str
    pid: int
    pid_start: str


@dataclass(frozen=True)
class ProcessRecord:
    """A process that is not marked stopped, whether it still runs or not."""

    id: int
    identity: ProcessIdentity
    started_at: datetime
    heartbeat_at: datetime


def register(session: Session, identity: ProcessIdentity, now: datetime) -> int:
    """Insert the row of a process that starts; return its id."""
    row = Process(**vars(identity), started_at=now, heartbeat_at=now)
    session.add(row)
    session.flush()
    return row.id


def beat(session: Session, number: int, identity: ProcessIdentity, now: datetime) -> bool:
    """Write a heartbeat; False where the row is no longer this process's, as after a restored backup."""
    own = (Process.id == number, Process.stopped_at.is_(None))
    same = (getattr(Process, name) == value for name, value in vars(identity).items())
    return changed_rows(session, update(Process).where(*own, *same).values(heartbeat_at=now)) == 1


def stop(session: Session, number: int, now: datetime) -> None:
    """Mark a process stopped: what it still holds is released at once."""
    session.execute(update(Process).where(Process.id == number).values(stopped_at=now))


def unstopped(session: Session) -> tuple[ProcessRecord, ...]:
    """Return every process that is not marked stopped, in the order of their start."""
    rows = session.scalars(select(Process).where(Process.stopped_at.is_(None)).order_by(Process.started_at, Process.id))
    return tuple(
        ProcessRecord(
            row.id,
            ProcessIdentity(row.name, row.host, row.boot, row.pid, row.pid_start),
            row.started_at,
            row.heartbeat_at,
        )
        for row in rows.all()
    )


def prune(session: Session, before: datetime) -> int:
    """Delete the rows of processes whose last heartbeat is older than ``before``. Returns how many."""
    return changed_rows(session, delete(Process).where(Process.heartbeat_at < before))
