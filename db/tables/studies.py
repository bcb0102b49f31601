"""Tables of studies and their instances, and where the bytes of each instance lie."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key, UtcDateTime


class Study(Base):
    __tablename__ = "study"
    __table_args__ = (
        Index("ix_study_latest_at_reading_key_priority", "latest_at", "reading_key", "priority"),
        Index("ix_study_priority_latest_at", "priority", "latest_at"),
        # a B-tree of PostgreSQL refuses values beyond 2,700 bytes, and these came by wire
        *(
            Index(f"ix_study_{name}", name, postgresql_using="hash")
            for name in ("patient_id", "accession_number", "study_date")
        ),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_id: Mapped[str] = mapped_column(Text)
    patient_name: Mapped[str] = mapped_column(Text)
    patient_birth_date: Mapped[str] = mapped_column(Text)
    patient_sex: Mapped[str] = mapped_column(Text)
    accession_number: Mapped[str] = mapped_column(Text)
    study_date: Mapped[str] = mapped_column(Text)
    study_time: Mapped[str] = mapped_column(Text)
    study_description: Mapped[str] = mapped_column(Text)
    arrived_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    # when its last live image arrived, or the last result of one came; none: it never belonged on the worklist
    latest_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    priority: Mapped[str] = mapped_column(String(8))
    score: Mapped[float] = mapped_column(Float)
    reading_key: Mapped[float] = mapped_column(Float)
    ai_state: Mapped[str] = mapped_column(String(16), default="not_applicable", index=True)  # of `db.analysis.states`


class Instance(Base):
    __tablename__ = "instance"
    __table_args__ = (
        Index(
            "ix_instance_origin_state_outside_domain_received_at", "origin", "state", "outside_domain", "received_at"
        ),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("study.id"), index=True)
    sop_instance_uid: Mapped[str | None] = mapped_column(String(64), unique=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    origin: Mapped[str] = mapped_column(String(8))  # live | archive
    calling_ae: Mapped[str] = mapped_column(String(16))
    correlation_id: Mapped[str] = mapped_column(String(36))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    age_years: Mapped[float | None] = mapped_column(Float)
    view: Mapped[str | None] = mapped_column(Text)
    flags: Mapped[list[str]] = mapped_column(JSON)
    # received (within the transaction that inserts it) | pending | running | done | not_applicable | failed | refused;
    # both are written by `db.analysis.states` alone
    state: Mapped[str] = mapped_column(String(16), default="received")
    outside_domain: Mapped[bool] = mapped_column(Boolean, default=False)  # of the result shown


class Location(Base):
    """Where an instance's bytes lie. The first location is the one that is read; others are kept beside it."""

    __tablename__ = "location"
    __table_args__ = (UniqueConstraint("instance_id", "uri"),)
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), index=True)
    uri: Mapped[str] = mapped_column(Text, index=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    calling_ae: Mapped[str] = mapped_column(Text, default="")
    study_instance_uid: Mapped[str] = mapped_column(Text, default="")  # what these bytes say, also where it contradicts


class MisfiledLocation(Base):
    """Bytes kept with another study's image, whose UID they bear, though they name this study."""

    __tablename__ = "misfiled_location"
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True, autoincrement=False)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
