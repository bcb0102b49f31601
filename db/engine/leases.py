"""Leases: one claim at a time holds a row of work, and only that claim can end it.

A row is free (``pending``) or held: ``lease_owner`` names the claim as ``PROCESS:UUID``, ``lease_until`` ends it. The
claim and not the process is named, so that a process that lost its lease and claimed the row again cannot end the first
claim in the name of the second. Every UPDATE repeats state and owner, and so changes nothing once the lease was lost.

The margins below release what a clock, set back since, has written ahead of now. They are far beyond what a clock is
corrected by in ordinary operation, so that nothing is done twice for a second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update

from db.engine.session import Session, changed_rows
from db.tables.base import Leased, Retried, UtcDateTime

LONGEST_LEASE = timedelta(hours=1)  # leases last minutes: one that ends later was written by a clock that ran ahead
LONGEST_WAIT = timedelta(minutes=30)  # what failed is tried again after five minutes at most
ENQUEUED_AHEAD = timedelta(minutes=1)  # nothing is queued in the future

Row = TypeVar("Row", bound=Leased)
RetriedRow = TypeVar("RetriedRow", bound=Retried)


class Claimed(Protocol):
    """A row that was claimed: its id, and the token of the claim."""

    @property
    def id(self) -> int: ...
    @property
    def claim(self) -> str: ...


@dataclass(frozen=True)
class HeldRow:
    """A row that is held: by which claim, until when."""

    id: int
    claim: str | None
    until: datetime | None


def database_time(session: Session, clock: Callable[[], datetime]) -> datetime:
    """Return the time that leases are measured by: of the database server, so that machines may disagree.

    Parameters
    ----------
    clock
        This machine's, UTC with a zone; used for SQLite, which has no clock and no other machine.
    """
    if session.get_bind().dialect.name != "postgresql":
        return clock()
    return session.execute(select(func.clock_timestamp(type_=UtcDateTime()))).scalar_one()


def lease_is_over(until: datetime | None, now: datetime) -> bool:
    """Whether a lease has ended, or can never have been given for so long."""
    return until is None or until < now or until > now + LONGEST_LEASE


def process_of(claim: str) -> str:
    """Return which process took a claim, as it named itself."""
    return claim.rpartition(":")[0]


class Leases(Generic[Row]):
    """The leases of one table; ``held`` is the state of a claimed row, ``free`` that of one which may be claimed."""

    def __init__(self, table: type[Row], held: str, free: str = "pending") -> None:
        self.table = table
        self._held, self._free = held, free

    def claimable(self, now: datetime) -> ColumnElement[bool]:
        """What may be claimed: what is free, and what has outlived its lease."""
        table = self.table
        over = or_(table.lease_until < now, table.lease_until > now + LONGEST_LEASE)
        return or_(table.state == self._free, and_(table.state == self._held, over))

    def held_by(self, *claimed: Claimed) -> tuple[ColumnElement[bool], ...]:
        """What of these is still held by the claim that took it."""
        table = self.table
        owners = {each.claim for each in claimed}
        return (table.id.in_([each.id for each in claimed]), table.state == self._held, table.lease_owner.in_(owners))

    def claim(
        self, session: Session, ids: Collection[int], *, owner: str, now: datetime, lease: timedelta
    ) -> tuple[str, list[int]]:
        """Claim what may be claimed of these rows, counting the attempt of each.

        Returns
        -------
        str, list of int
            The token of the claim, and the rows it holds now.
        """
        if not ids:
            return "", []
        table, token = self.table, f"{owner}:{uuid4().hex}"
        taken = (
            update(table)
            .where(table.id.in_(ids), self.claimable(now))
            .values(state=self._held, lease_owner=token, lease_until=now + lease, attempts=table.attempts + 1)
            .returning(table.id)
        )
        return token, list(session.scalars(taken))

    def renew(self, session: Session, claimed: Sequence[Claimed], until: datetime) -> int:
        """Extend the lease of what is still held. Returns how many rows that are."""
        if not claimed:
            return 0
        return changed_rows(session, update(self.table).where(*self.held_by(*claimed)).values(lease_until=until))

    def end(self, session: Session, claimed: Claimed, *, state: str, **values: object) -> bool:
        """End a claim with these values; False, and nothing is written, if the lease was lost."""
        ended = (
            update(self.table)
            .where(*self.held_by(claimed))
            .values(state=state, lease_owner=None, lease_until=None, **values)
        )
        return changed_rows(session, ended) == 1

    def give_back(self, session: Session, claimed: Claimed, *, counted: bool, **values: object) -> bool:
        """End a claim by freeing its row; with ``counted=False`` the attempt does not count."""
        if not counted:
            values["attempts"] = self.table.attempts - 1
        return self.end(session, claimed, state=self._free, **values)

    def release_dead(self, session: Session, is_dead: Callable[[str], bool], now: datetime, **values: object) -> int:
        """Free what dead processes hold, and what has outlived its lease. Returns how many rows.

        Parameters
        ----------
        is_dead
            Whether the process of this name is gone for certain.
        values
            Written into each row that is freed.
        """
        return self.free_dead(session, self.dead(session, is_dead, now), **values)

    def dead(self, session: Session, is_dead: Callable[[str], bool], now: datetime) -> list[HeldRow]:
        """Return what `release_dead` would free."""
        table = self.table
        held = select(table.id, table.lease_owner, table.lease_until).where(table.state == self._held)
        rows = [HeldRow(*row) for row in session.execute(held).all()]
        return [
            row for row in rows if row.claim is None or lease_is_over(row.until, now) or is_dead(process_of(row.claim))
        ]

    def free_dead(self, session: Session, dead: Sequence[HeldRow], **values: object) -> int:
        """Free what is still held as `dead` has found it. Returns how many rows."""
        table = self.table
        freed = 0
        for row in dead:
            # the claim and its end are repeated: it may have been renewed, or ended and begun anew, meanwhile
            unchanged = (table.id == row.id, table.state == self._held, table.lease_owner == row.claim)
            free = (
                update(table)
                .where(*unchanged, table.lease_until == row.until)
                .values(state=self._free, lease_owner=None, lease_until=None, **values)
            )
            freed += changed_rows(session, free)
        return freed


class RetriedLeases(Leases[RetriedRow]):
    """The leases of a table whose rows are tried again at a time of their own."""

    def due(
        self, session: Session, where: ColumnElement[bool] | None = None, *, now: datetime, limit: int
    ) -> list[int]:
        """Return up to ``limit`` rows that are due, locked, oldest first; then those whose holder or clock is gone.

        What another transaction has locked is passed over.
        """
        ids: list[int] = []
        for rows in self._due(where, now):
            ids += session.scalars(rows.with_for_update(skip_locked=True).limit(limit - len(ids)))
        return ids

    def is_any_due(self, session: Session, where: ColumnElement[bool] | None = None, *, now: datetime) -> bool:
        """Whether `due` would find a row; asked before anything is written."""
        return any(session.scalar(rows.limit(1)) is not None for rows in self._due(where, now))

    def _due(self, where: ColumnElement[bool] | None, now: datetime) -> list[Select[Any]]:
        # asked apart, the first is read off an index in its order; with OR, a long queue would be sorted every time
        table = self.table
        rows = select(table.id).order_by(table.next_attempt_at, table.id)
        if where is not None:
            rows = rows.where(where)
        return [
            rows.where(table.state == self._free, table.next_attempt_at <= now),
            rows.where(table.state == self._held, table.lease_until < now),
            rows.where(table.state == self._free, table.next_attempt_at > now + LONGEST_WAIT),
        ]
