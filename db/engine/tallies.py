"""Reading the counts that triggers keep, and adding their rows up."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import delete, func, select

from db.engine.session import Database, Session
from db.tables.tallies import Tally

_ADDED_UP_BEYOND = (
    1_000  # rows beside one a count; adding up is one short transaction, reading them takes a millisecond
)


def tallies(session: Session, *kinds: str) -> dict[str, dict[tuple[str, str], int]]:
    """Return the counts of these kinds: per kind, by name and detail; what counts none is left out."""
    number = func.sum(Tally.number)
    rows = session.execute(
        select(Tally.kind, Tally.name, Tally.detail, number)
        .where(Tally.kind.in_(kinds))
        .group_by(Tally.kind, Tally.name, Tally.detail)
        .having(number != 0)
    )
    found: dict[str, dict[tuple[str, str], int]] = {kind: {} for kind in kinds}
    for kind, name, detail, total in rows:
        found[kind][name, detail] = int(total)
    return found


def add_up(database: Database, beyond: int = _ADDED_UP_BEYOND) -> int:
    """Replace the rows of each count by one, where there are ``beyond`` more. Returns by how many there are fewer."""
    with database.read() as session:
        rows = session.scalar(select(func.count()).select_from(Tally)) or 0
        counts = select(Tally.kind, Tally.name, Tally.detail).distinct().subquery()
        if rows - (session.scalar(select(func.count()).select_from(counts)) or 0) <= beyond:
            return 0
    with database.write() as session:
        # what another transaction adds meanwhile is not seen here, and stays
        gone = session.execute(delete(Tally).returning(Tally.kind, Tally.name, Tally.detail, Tally.number)).all()
        totals: Counter[tuple[str, str, str]] = Counter()
        for kind, name, detail, number in gone:
            totals[kind, name, detail] += number
        kept = [
            Tally(kind=kind, name=name, detail=detail, number=total)
            for (kind, name, detail), total in totals.items()
            if total
        ]
        session.add_all(kept)
    return len(gone) - len(kept)
