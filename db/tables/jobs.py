"""Table of jobs: work on many stored images that a person asked for at once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key, UtcDateTime


class Job(Base):
    """planned -> running <-> paused -> done | cancelled; its counts are those of its analyses, by their state."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    source: Mapped[str] = mapped_column(Text)  # where its images come from, in words
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
