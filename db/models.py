"""The registry's rows: which bundles this installation knows, and which one is active."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from db.records import ActiveModel
from db.session import Session
from db.tables import Model


def active_model(session: Session) -> ActiveModel | None:
    """Return the model that new studies are read with, or None: then they are received and wait."""
    row = session.scalar(select(Model).where(Model.active.is_(True)))
    return None if row is None else _record(row)


def known_model(session: Session, digest: str) -> ActiveModel | None:
    """Return the model with this digest, active or not."""
    row = session.get(Model, digest)
    return None if row is None else _record(row)


def any_model_known(session: Session) -> bool:
    """Whether a model was ever activated here (a fresh installation has none)."""
    return session.scalar(select(Model.digest).limit(1)) is not None


def activate(session: Session, model: ActiveModel, now: datetime) -> None:
    """Make ``model`` the one active model; results of the others stay as they are."""
    session.execute(update(Model).where(Model.active.is_(True)).values(active=False))
    row = session.get(Model, model.digest)
    if row is None:
        row = Model(digest=model.digest)
        session.add(row)
    row.name = model.name
    row.folder = model.folder
    row.preprocessing_id = model.preprocessing_id
    row.active = True
    row.activated_at = now


def deactivate(session: Session) -> None:
    """Leave no model active: studies are received and wait."""
    session.execute(update(Model).where(Model.active.is_(True)).values(active=False))


def _record(row: Model) -> ActiveModel:
    return ActiveModel(digest=row.digest, name=row.name, folder=row.folder, preprocessing_id=row.preprocessing_id)
