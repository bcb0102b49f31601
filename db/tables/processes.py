"""Table of the processes of an installation, on every machine."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key, UtcDateTime


class Process(Base):
    """A process since its start; a lease names the row whose process took it."""

    __tablename__ = "process"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(32))  # listen | work | analysis child | deliver | schedule | web
    host: Mapped[str] = mapped_column(Text)
    boot: Mapped[str] = mapped_column(Text)  # boot id and process-id namespace; empty where the system has none
    pid: Mapped[int] = mapped_column(Integer)
    pid_start: Mapped[str] = mapped_column(Text)  # in clock ticks since boot: process ids are used again
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime] = mapped_column(UtcDateTime)
    stopped_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
