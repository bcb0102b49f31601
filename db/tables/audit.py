"""Tables of removals and of rejected transfers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    JSON,
    Integer,
    String,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key, UtcDateTime


class Erasure(Base):
    """What was erased, by whom and why: the audit of removals, and the list of files still to be deleted."""

    __tablename__ = "erasure"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    requested_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(String(64))  # sha256 of the study UID: proves what was removed, names nobody
    instances: Mapped[int] = mapped_column(Integer)
    objects: Mapped[int] = mapped_column(Integer)
    uris: Mapped[list[str]] = mapped_column(JSON)  # emptied when the files are gone
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)


class Rejection(Base):
    """A transfer answered with a failure, of which nothing was stored. ``number``: how often the same was answered.

    ``key`` is of hour, sender, status and reason; ``rejected_at`` and ``last_at`` are the first and the last of them.
    """

    __tablename__ = "rejection"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True, index=True)
    rejected_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    last_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    number: Mapped[int] = mapped_column(Integer)
    calling_ae: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    status: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(Text)
