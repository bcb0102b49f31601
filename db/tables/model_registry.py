"""Tables of the model registry: bundles, and the ages and views that each active one reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, UtcDateTime


class Model(Base):
    """The registry: which bundles this installation knows, and which of them read which images."""

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
    scope: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True)
    )  # `db.model_registry.scope.ModelScope`, or none


class ModelScopeCell(Base):
    """One year of age in one view, and whose it is: two models can never have the same, whoever activates them."""

    __tablename__ = "model_scope_cell"
    age: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    view: Mapped[str] = mapped_column(String(8), primary_key=True)
    model_digest: Mapped[str] = mapped_column(ForeignKey("model.digest"), index=True)


class ModelRouting(Base):
    """One row: how often the routing was changed, and up to which change all that waits follows it."""

    __tablename__ = "model_routing"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(Integer)
    applied: Mapped[int] = mapped_column(Integer)
