"""Tables of made objects, of the outbox, and of requests for storage commitment."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Key, Retried, UtcDateTime


class MadeObject(Base):
    """An object we made, one row a revision; its bytes are kept and the same bytes are resent.

    ``revision`` rises when an input changes (``inputs_digest``); what was made before migration 0014 has "rendering
    version N" in place of a digest.
    """

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
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject_uid: Mapped[str] = mapped_column(String(64))
    model_digest: Mapped[str] = mapped_column(String(64))
    preprocessing_id: Mapped[str] = mapped_column(String(128))
    label: Mapped[str] = mapped_column(String(64))
    variant: Mapped[str] = mapped_column(String(32))
    revision: Mapped[int] = mapped_column(Integer)
    inputs_digest: Mapped[str] = mapped_column(String(64))
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    uri: Mapped[str] = mapped_column(Text, index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ObjectSource(Base):
    """The analyses that an object is made of."""

    __tablename__ = "object_source"
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id"), primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"), primary_key=True, index=True)


class Delivery(Retried, Base):
    """The outbox: pending -> sending (lease) -> sent -> committed | failed (reason, attempts, next attempt).

    A pending one of which the object has a newer revision is ``superseded``.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("object_id", "destination"),
        Index("ix_delivery_destination_state_next_attempt_at", "destination", "state", "next_attempt_at"),
        Index("ix_delivery_state_lease_until", "state", "lease_until"),
        Index("ix_delivery_state_destination_created_at", "state", "destination", "created_at"),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    reason_code: Mapped[str] = mapped_column(String(32), default="")  # of `db.reasons.ReasonCode`
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)


class Commitment(Retried, Base):
    """Requests for storage commitment: pending -> reporting (lease) -> reported | failed (reason, attempts)."""

    __tablename__ = "commitment"
    __table_args__ = (
        UniqueConstraint("calling_ae", "transaction_uid"),
        Index("ix_commitment_state_next_attempt_at", "state", "next_attempt_at"),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64))
    calling_ae: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(Text)
    instances: Mapped[list[list[str]]] = mapped_column(JSON)  # [class, instance] each; emptied at the end
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    reason_code: Mapped[str] = mapped_column(String(32), default="")  # of `db.reasons.ReasonCode`
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    committed: Mapped[int] = mapped_column(Integer, default=0)
    refused: Mapped[int] = mapped_column(Integer, default=0)
