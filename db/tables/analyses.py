"""Tables of analyses, their findings and Grad-CAM maps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key, Leased, UtcDateTime
from db.tables.jobs import Job


class Analysis(Leased, Base):
    """pending -> running (lease) -> done | not_applicable (reason) | failed (reason, attempts)."""

    __tablename__ = "analysis"
    __table_args__ = (
        UniqueConstraint("instance_id", "model_digest", "preprocessing_id", name="uq_analysis_key"),
        Index("ix_analysis_state_lease_until", "state", "lease_until"),
        Index(
            "ix_analysis_state_queue_priority_enqueued_at_retry_at",
            "state",
            "queue",
            "priority",
            "enqueued_at",
            "retry_at",
        ),
        Index("ix_analysis_job_id_state", "job_id", "state"),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"))
    model_digest: Mapped[str] = mapped_column(String(64))
    preprocessing_id: Mapped[str] = mapped_column(String(128))
    model_name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    reason_code: Mapped[str] = mapped_column(String(32), default="")  # of `db.reasons.ReasonCode`
    queue: Mapped[str] = mapped_column(String(8), default="live")  # of `db.records.Queue`
    priority: Mapped[int] = mapped_column(Integer, default=0)  # within its queue; the smaller, the earlier
    job_id: Mapped[int | None] = mapped_column(ForeignKey(Job.id))
    enqueued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    faults: Mapped[int] = mapped_column(Integer, default=0)  # of the machine, in a row; no attempt is counted for them
    retry_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # after such a fault; queued again no earlier
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    engine: Mapped[str] = mapped_column(Text, default="")
    precision: Mapped[str] = mapped_column(Text, default="")
    application_version: Mapped[str] = mapped_column(Text, default="")
    source_sha256: Mapped[str] = mapped_column(String(64), default="")
    ood_score: Mapped[float | None] = mapped_column(Float)
    flags: Mapped[list[str]] = mapped_column(JSON, default=list)
    outside_domain: Mapped[bool] = mapped_column(Boolean, default=False)
    record: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # what was done to the pixels


class Finding(Base):
    __tablename__ = "finding"
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    label: Mapped[str] = mapped_column(Text)
    probability: Mapped[float] = mapped_column(Float)
    logit: Mapped[float] = mapped_column(Float)
    threshold: Mapped[float] = mapped_column(Float)
    positive: Mapped[bool] = mapped_column(Boolean)


class LogitMaps(Base):
    """Grad-CAM maps of all labels of one analysis (float16 x a float32 scale a label), and the tensor's affine."""

    __tablename__ = "logit_maps"
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    affine: Mapped[list[float]] = mapped_column(JSON)
