"""Table of gate decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    ForeignKey,
    Index,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key, UtcDateTime


class GateDecision(Base):
    """What was decided about an instance, by the rules or a person; the `current` one counts, the others are kept."""

    __tablename__ = "gate_decision"
    __table_args__ = (
        Index("ix_gate_decision_origin_current_accepted_rule", "origin", "current", "accepted", "rule"),
        Index(
            "uq_gate_decision_current",
            "instance_id",
            unique=True,
            sqlite_where=text("current"),
            postgresql_where=text("current"),
        ),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), index=True)
    origin: Mapped[str] = mapped_column(String(8))  # of its instance, so that refusals are counted in an index
    rules_version: Mapped[str] = mapped_column(String(64))
    accepted: Mapped[bool] = mapped_column(Boolean)
    rule: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    flags: Mapped[list[str]] = mapped_column(JSON)
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # accepted while no model was active, and without an analysis since; found by its index, however long the archive
    waits: Mapped[bool] = mapped_column(Boolean, default=False, index=True)
    current: Mapped[bool] = mapped_column(Boolean, default=True)
    decided_by: Mapped[str] = mapped_column(Text, default="")  # a person's name; empty: the rules
