"""The registry's rows: which bundles this installation knows, and which images each of the active ones reads."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import delete, exists, or_, select, text, update

from db.engine.session import Session
from db.model_registry.scope import ActiveEntry, ActiveModels, ModelScope
from db.records import ActiveModel
from db.tables.model_registry import Model, ModelRouting, ModelScopeCell


class ScopeTaken(Exception):
    """Another active model reads some of these images already; the message says which."""

    exit_code: ClassVar[int] = 1


def active_models(session: Session) -> ActiveModels:
    """Return the model routing, the default first; empty: studies are received and wait."""
    rows = session.scalars(
        select(Model).where(Model.active.is_(True)).order_by(Model.is_default.desc(), Model.name, Model.digest)
    )
    return ActiveModels(
        tuple(
            ActiveEntry(_record(row), None if row.scope is None else ModelScope.of_json(row.scope), row.is_default)
            for row in rows
        )
    )


def known_model(session: Session, digest: str) -> ActiveModel | None:
    """Return the model with this digest, active or not."""
    row = session.get(Model, digest)
    return None if row is None else _record(row)


def any_model_known(session: Session) -> bool:
    """Whether a model was ever activated here (a fresh installation has none)."""
    return session.scalar(select(Model.digest).limit(1)) is not None


def activate(
    session: Session,
    model: ActiveModel,
    now: datetime,
    scope: ModelScope | None = None,
    *,
    default: bool = False,
    replace: bool = False,
) -> None:
    """Let ``model`` read ``scope``, and as the default what no other does; without a scope it is the default.

    The former default, and a model whose scope is exactly this one, are replaced. Results stay as they are.

    Parameters
    ----------
    replace
        Take the scope from every model that has some of it, too; they read nothing by ages or views any more.

    Raises
    ------
    ScopeTaken
        If another model has some of the scope but not just this one.
    """
    one_at_a_time(session)
    cells = set() if scope is None else scope.cells()
    mine = Model.digest == model.digest
    session.execute(delete(ModelScopeCell).where(ModelScopeCell.model_digest == model.digest))
    for other in session.scalars(select(Model).where(Model.scope.is_not(None), ~mine)).all():
        theirs = ModelScope.of_json(other.scope or {"ages": [], "views": []})
        if not cells & theirs.cells():
            continue
        if theirs.cells() != cells and not replace:
            assert scope is not None
            raise ScopeTaken(
                f"{other.name} {other.digest[:12]} reads {theirs.says()}, which meets {scope.says()}: "
                f"name other ages or views, 'cxr-triage model deactivate {other.name}' first, or take it with --replace"
            )
        session.execute(delete(ModelScopeCell).where(ModelScopeCell.model_digest == other.digest))
        other.scope = None
    if default or scope is None:
        session.execute(update(Model).where(Model.is_default.is_(True)).values(is_default=False))
    row = session.get(Model, model.digest, populate_existing=True)
    if row is None:
        row = Model(digest=model.digest)
        session.add(row)
    row.name = model.name
    row.folder = model.folder
    row.preprocessing_id = model.preprocessing_id
    row.active = True
    row.activated_at = now
    row.scope = None if scope is None else scope.to_json()
    row.is_default = default or scope is None
    session.flush()
    session.add_all(ModelScopeCell(age=age, view=view, model_digest=model.digest) for age, view in sorted(cells))
    session.flush()
    _routing_changed(session)


def note_moved(session: Session, digest: str, former: str, folder: str) -> None:
    """Note that a bundle stands elsewhere now, unless another was activated meanwhile."""
    session.execute(update(Model).where(Model.digest == digest, Model.folder == former).values(folder=folder))


def deactivate(session: Session, digest: str | None = None) -> None:
    """Let a model read nothing more, or none at all: then studies are received and wait."""
    one_at_a_time(session)
    named = () if digest is None else (Model.digest == digest,)
    cells = () if digest is None else (ModelScopeCell.model_digest == digest,)
    session.execute(delete(ModelScopeCell).where(*cells))
    session.execute(update(Model).where(*named).values(is_default=False, scope=None))
    _routing_changed(session)


def routing_revision(session: Session) -> int:
    """Return how often the model routing was changed here."""
    return int(session.scalar(select(ModelRouting.revision)) or 0)


def routing_is_applied(session: Session) -> bool:
    """Whether everything that waited when the routing was last changed waits for the model that reads it now."""
    return session.scalar(select(ModelRouting.applied >= ModelRouting.revision)) is not False


def note_routing_applied(session: Session, revision: int) -> None:
    """Note that nothing waits for a model that read it before this revision of the routing."""
    session.execute(update(ModelRouting).where(ModelRouting.applied < revision).values(applied=revision))


def _routing_changed(session: Session) -> None:
    session.execute(update(ModelRouting).values(revision=ModelRouting.revision + 1))
    _only_readers_are_active(session)


def _only_readers_are_active(session: Session) -> None:
    reads = or_(Model.is_default.is_(True), exists().where(ModelScopeCell.model_digest == Model.digest))
    session.execute(update(Model).where(~reads).values(active=False))


def one_at_a_time(session: Session) -> None:
    """Let two activations wait for each other until they commit; readers wait for nobody."""
    if session.connection().dialect.name == "postgresql":  # SQLite has one writer at a time
        session.execute(text("LOCK TABLE model IN SHARE ROW EXCLUSIVE MODE"))


def _record(row: Model) -> ActiveModel:
    return ActiveModel(digest=row.digest, name=row.name, folder=row.folder, preprocessing_id=row.preprocessing_id)
