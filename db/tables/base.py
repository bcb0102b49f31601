"""The tables. The database is the truth of every study; the broker is only a doorbell.

Every unit of work is a row with a state, changed by one guarded UPDATE. Times are UTC with a zone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_Key = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database (SQLite itself keeps no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone was to be stored: {value!r}; times are UTC with a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMING)


class Installation(Base):
    """One row: the identity that every derived UID starts from."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    uid: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Study(Base):
    __tablename__ = "study"
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
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
    priority: Mapped[str] = mapped_column(String(8), index=True)
    score: Mapped[float] = mapped_column(Float)
    reading_key: Mapped[float] = mapped_column(Float, index=True)


class Instance(Base):
    __tablename__ = "instance"
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
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


class Location(Base):
    """Where an instance's bytes lie. The first location is the one that is read; others are kept beside it."""

    __tablename__ = "location"
    __table_args__ = (UniqueConstraint("instance_id", "uri"),)
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), index=True)
    uri: Mapped[str] = mapped_column(Text, index=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    calling_ae: Mapped[str] = mapped_column(Text, default="")
    study_instance_uid: Mapped[str] = mapped_column(Text, default="")  # what these bytes say, also where it contradicts


class Stray(Base):
    """Bytes kept with another study's image, whose UID they bear, though they name this study."""

    __tablename__ = "stray"
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True, autoincrement=False)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)


class GateDecision(Base):
    """What was decided about an instance, by the rules or a person; the `current` one counts, the others are kept."""

    __tablename__ = "gate_decision"
    __table_args__ = (
        UniqueConstraint("instance_id", "rules_version"),
        Index(
            "uq_gate_decision_current",
            "instance_id",
            unique=True,
            sqlite_where=text("current"),
            postgresql_where=text("current"),
        ),
    )
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), index=True)
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


class Analysis(Base):
    """pending -> running (lease) -> done | not_applicable (reason) | failed (reason, attempts)."""

    __tablename__ = "analysis"
    __table_args__ = (
        UniqueConstraint("instance_id", "model_digest", "preprocessing_id", name="uq_analysis_key"),
        Index("ix_analysis_state_lease_until", "state", "lease_until"),
        Index("ix_analysis_state_rung_at", "state", "rung_at"),
    )
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"))
    model_digest: Mapped[str] = mapped_column(String(64))
    preprocessing_id: Mapped[str] = mapped_column(String(128))
    model_name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    rung_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
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


class MadeObject(Base):
    """A DICOM object we made. Its UID is derived from its key; its bytes are kept and the same bytes are resent."""

    __tablename__ = "object"
    __table_args__ = (
        UniqueConstraint(
            "kind",
            "subject_uid",
            "model_digest",
            "preprocessing_id",
            "label",
            "variant",
            "revision",
            name="uq_object_key",
        ),
    )
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject_uid: Mapped[str] = mapped_column(String(64))
    model_digest: Mapped[str] = mapped_column(String(64))
    preprocessing_id: Mapped[str] = mapped_column(String(128))
    label: Mapped[str] = mapped_column(String(64))
    variant: Mapped[str] = mapped_column(String(32))
    revision: Mapped[int] = mapped_column(Integer)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    uri: Mapped[str] = mapped_column(Text, index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Delivery(Base):
    """The outbox: pending -> sending (lease) -> sent -> committed | failed (reason, attempts, next attempt)."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("object_id", "destination"),
        Index("ix_delivery_destination_state_next_attempt_at", "destination", "state", "next_attempt_at"),
        Index("ix_delivery_state_lease_until", "state", "lease_until"),
    )
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Commitment(Base):
    """Requests for storage commitment: pending -> reporting (lease) -> reported | failed (reason, attempts)."""

    __tablename__ = "commitment"
    __table_args__ = (
        UniqueConstraint("calling_ae", "transaction_uid"),
        Index("ix_commitment_state_next_attempt_at", "state", "next_attempt_at"),
    )
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64))
    calling_ae: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(Text)
    instances: Mapped[list[list[str]]] = mapped_column(JSON)  # [class, instance] each; emptied at the end
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    committed: Mapped[int] = mapped_column(Integer, default=0)
    refused: Mapped[int] = mapped_column(Integer, default=0)


class Model(Base):
    """The registry: which bundles this installation has seen, and which of them read what."""

    __tablename__ = "model"
    __table_args__ = (
        Index(
            "uq_model_default",
            "is_default",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
    )
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    folder: Mapped[str] = mapped_column(Text)
    preprocessing_id: Mapped[str] = mapped_column(String(128))
    active: Mapped[bool] = mapped_column(Boolean)
    activated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    is_default: Mapped[bool] = mapped_column(Boolean, default=False)  # reads what no other active model does
    ground: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # `db.grounds.Ground`, or none


class GroundCell(Base):
    """One year of age in one view, and whose it is: two models can never have the same, whoever activates them."""

    __tablename__ = "ground_cell"
    age: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    view: Mapped[str] = mapped_column(String(8), primary_key=True)
    model_digest: Mapped[str] = mapped_column(ForeignKey("model.digest"), index=True)


class Erasure(Base):
    """What was forgotten, by whom and why: the audit of removals, and the list of files still to be deleted."""

    __tablename__ = "erasure"
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    requested_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(String(64))  # sha256 of the study UID: proves what was removed, names nobody
    instances: Mapped[int] = mapped_column(Integer)
    objects: Mapped[int] = mapped_column(Integer)
    uris: Mapped[list[str]] = mapped_column(JSON)  # emptied when the files are gone
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)


class Rejection(Base):
    """A transfer answered with a failure: nothing was stored, but it is not forgotten. ``number``: the same, so often.

    ``key`` is of hour, sender, status and reason; ``rejected_at`` and ``last_at`` are the first and the last of them.
    """

    __tablename__ = "rejection"
    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True, index=True)
    rejected_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    last_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    number: Mapped[int] = mapped_column(Integer)
    calling_ae: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    status: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(Text)
