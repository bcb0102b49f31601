"""Table of counts, kept by triggers (migration 0016): no page counts rows of which there are more every day."""

from __future__ import annotations

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key


class Tally(Base):
    """So many more, or fewer, rows of a kind: a count is the sum of all rows with its kind and names.

    Rows are added and never changed, so that two transactions wait for each other nowhere; `db.engine.tallies` adds
    them up now and then.
    """

    __tablename__ = "tally"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))  # instance | accepted | refused | delivery | commitment | rejection
    name: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    number: Mapped[int] = mapped_column(Integer)
