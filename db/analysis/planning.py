"""Work comes into being: which model an accepted image is read with, and what waits when that changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, update

from db.analysis.states import lock_studies, refresh, several_analyses
from db.engine.session import Database, Session, changed_rows
from db.model_registry.activation import active_models, note_routing_applied, routing_revision
from db.model_registry.scope import ActiveModels
from db.reasons import ReasonCode
from db.records import BATCH, LIVE, ActiveModel, Queue
from db.tables.analyses import Analysis
from db.tables.gate import GateDecision
from db.tables.model_registry import Model
from db.tables.studies import Instance, Location

_RANKED_AT_ONCE = 50  # studies a transaction; each takes some statements, while other writers wait
_AT_ONCE = 500  # ids a statement; each is a bound variable, of which SQLite takes 32,766

# What waits, or what no active model read: it has no result. The states stand in front, as the range of an index.
_FREE = and_(
    Analysis.state.in_(("pending", "not_applicable")), or_(Analysis.state == "pending", Analysis.model_digest == "")
)


def queue_of(instance: Instance) -> Queue:
    """Return the queue that an image's work goes to: what has just arrived is read before what was archived."""
    return LIVE if instance.origin == "live" else BATCH


def new_analysis(
    instance: Instance,
    models: ActiveModels,
    sha256: str,
    now: datetime,
    *,
    priority: int = 0,
    job_id: int | None = None,
) -> Analysis:
    """Return a row of work for the model that reads this image; where no active one does, a row that says so.

    ``enqueued_at`` is now because whoever creates it queues it as soon as it is committed.
    """
    model = models.model_for(instance.age_years, instance.view)
    row = Analysis(instance_id=instance.id, state="pending", reason="", created_at=now, enqueued_at=now)
    row.source_sha256 = sha256
    row.queue, row.priority, row.job_id = queue_of(instance), priority, job_id
    if model is None:
        _no_model_for(row, models.why_no_model(instance.age_years, instance.view), now)
    else:
        row.model_digest, row.preprocessing_id, row.model_name = model.digest, model.preprocessing_id, model.name
    return row


def create_missing(session: Session, now: datetime, limit: int) -> int:
    """Give work to accepted live instances that came while no model was active. Returns how many."""
    models = active_models(session)
    if not models:
        return 0
    waits = GateDecision.waits.is_(True)
    oldest = select(GateDecision.instance_id).where(waits).order_by(GateDecision.id).limit(limit)
    lock_studies(session, session.scalars(oldest).all())  # study before image, as everybody locks them
    waiting = session.scalars(
        select(GateDecision).where(waits).order_by(GateDecision.id).limit(limit).with_for_update(skip_locked=True)
    ).all()
    ids = [decision.instance_id for decision in waiting]
    instances = {row.id: row for row in session.scalars(select(Instance).where(Instance.id.in_(ids)))}
    first = first_locations(session, ids)
    key = (Analysis.instance_id, Analysis.model_digest, Analysis.preprocessing_id)
    known = {tuple(row) for row in session.execute(select(*key).where(Analysis.instance_id.in_(ids)))}
    for decision in waiting:
        decision.waits = False
    made = [new_analysis(instances[each], models, first[each], now) for each in ids]
    # an image read, refused, and accepted again keeps the result that it has
    rows = [row for row in made if (row.instance_id, row.model_digest, row.preprocessing_id) not in known]
    for row in rows:
        row.enqueued_at = None  # queued by recovery, next
    session.add_all(rows)
    refresh(session, ids)
    return len(rows)


def first_locations(session: Session, instance_ids: Sequence[int]) -> dict[int, str]:
    """Return the digest of the bytes that are read, by instance."""
    first: dict[int, str] = {}
    for instance_id, sha256 in session.execute(
        select(Location.instance_id, Location.sha256)
        .where(Location.instance_id.in_(instance_ids))
        .order_by(Location.id)
    ):
        first.setdefault(instance_id, sha256)
    return first


def read_after_all(session: Session, instance_id: int, sha256: str) -> None:
    """Queue what failed because the store had lost the bytes that are read: they have come again."""
    again = (
        update(Analysis)
        .where(
            Analysis.instance_id == instance_id,
            Analysis.source_sha256 == sha256,
            Analysis.state == "failed",
            Analysis.reason_code == ReasonCode.STORED_FILE_LOST,
        )
        .values(state="pending", reason="", reason_code=ReasonCode.NONE, attempts=0)
        .values(finished_at=None, enqueued_at=None, faults=0, retry_at=None)  # recovery queues it within seconds
    )
    if changed_rows(session, again):
        refresh(session, [instance_id])


def retarget(database: Database, now: datetime, rank: Callable[[Session, int], object] | None = None) -> int:
    """Queue what waits for the model that reads it now: a broken or former model must not keep an image unread.

    What no active model read is queued too, where one does now. Called once an activation or deactivation is committed,
    and by recovery where the process that activated died before it had ended. What changes is looked for without
    writing and changed a few rows a transaction, so that images are received meanwhile; another activation ends it, and
    does the rest itself.

    Parameters
    ----------
    rank
        Ranks the study with this id anew: of an image that several models have read, another result may count now.

    Returns
    -------
    int
        How many analyses now wait for another model than before; recovery queues them.
    """
    with database.read() as session:
        revision = routing_revision(session)
        models = active_models(session)
        steps = [*_retargeting(session, models, now)] if models else []
        several = several_analyses(session)
    queued = 0
    for step in steps:
        with database.write() as session:
            if routing_revision(session) != revision:
                return queued
            queued += step(session)
    for start in range(0, len(several), _AT_ONCE):
        part = several[start : start + _AT_ONCE]
        with database.write() as session:
            refresh(session, part)
        if rank is not None:
            with database.read() as session:
                found = session.scalars(select(Instance.study_id).where(Instance.id.in_(part)).distinct())
                studies = [study for study in found if study is not None]
            for first in range(0, len(studies), _RANKED_AT_ONCE):
                with database.write() as session:
                    for study in studies[first : first + _RANKED_AT_ONCE]:
                        rank(session, study)
    with database.write() as session:
        note_routing_applied(session, revision)
    return queued


def _retargeting(session: Session, models: ActiveModels, now: datetime) -> Iterator[Callable[[Session], int]]:
    """What changes, each step so much as one transaction changes; it returns how many it moved to another model."""
    wait = session.execute(
        select(Analysis.id, Instance.id, Analysis.model_digest, Analysis.preprocessing_id, Instance.age_years)
        .add_columns(Instance.view, Analysis.state, Analysis.reason)
        .join(Instance, Instance.id == Analysis.instance_id)
        .where(Instance.origin == "live", _FREE)
    )
    moves: dict[ActiveModel, dict[int, int]] = defaultdict(dict)
    nobody: dict[str, dict[int, int]] = defaultdict(dict)
    for analysis_id, instance_id, digest, preprocessing_id, age_years, view, state, reason in wait:
        model = models.model_for(age_years, view)
        if model is None:
            why = models.why_no_model(age_years, view)
            if (state, reason) != ("not_applicable", why):
                nobody[why][analysis_id] = instance_id
        elif (digest, preprocessing_id) != (model.digest, model.preprocessing_id):
            moves[model][analysis_id] = instance_id
    for reason, rows in nobody.items():
        for part in _parts(rows):
            yield partial(_end_unread, reason=reason, rows=part, now=now)
    for model, rows in moves.items():
        for part in _parts(rows):
            yield partial(_move, model=model, rows=part)


def keep_current(session: Session, model: ActiveModel, preprocessing_id: str) -> int:
    """Note what the program makes of a model's images now, where it was `model`'s; what is queued names it from now on.

    What a former version failed because another version had queued it is read after all.

    Returns
    -------
    int
        How many analyses that are.
    """
    session.execute(
        update(Model)
        .where(Model.digest == model.digest, Model.preprocessing_id == model.preprocessing_id)
        .values(preprocessing_id=preprocessing_id)
    )
    again = (
        update(Analysis)
        .where(
            Analysis.state == "failed",
            Analysis.model_digest == model.digest,
            Analysis.reason_code == ReasonCode.OTHER_VERSION,
        )
        .values(state="pending", reason="", reason_code=ReasonCode.NONE, finished_at=None, enqueued_at=None)
        .returning(Analysis.instance_id)
    )
    instances = session.scalars(again).all()
    refresh(session, instances)
    return len(instances)


def _end_unread(session: Session, reason: str, rows: dict[int, int], now: datetime) -> int:
    """End what no active model reads, as one nameless row an image."""
    rows = _still_free(session, rows)
    kept = _one_an_image(session, rows, "", "")
    nameless = {"model_digest": "", "preprocessing_id": "", "model_name": ""}
    ended = {"state": "not_applicable", "reason": reason, "reason_code": ReasonCode.NO_MODEL_FOR_IMAGE}
    _change(session, kept, {**ended, **nameless, "finished_at": now})
    refresh(session, rows.values())
    return 0


def _move(session: Session, model: ActiveModel, rows: dict[int, int]) -> int:
    moved_before = and_(Analysis.model_digest == model.digest, Analysis.preprocessing_id == model.preprocessing_id)
    rows = _still_free(session, rows, ~moved_before)  # by recovery
    kept = _one_an_image(session, rows, model.digest, model.preprocessing_id)
    key = {"model_digest": model.digest, "preprocessing_id": model.preprocessing_id, "model_name": model.name}
    anew = {"state": "pending", "reason": "", "reason_code": ReasonCode.NONE, "faults": 0}
    times = dict.fromkeys(("enqueued_at", "retry_at", "finished_at"))
    moved = _change(session, kept, {**key, **anew, **times})
    refresh(session, rows.values())
    return moved


def _still_free(session: Session, rows: dict[int, int], *where: ColumnElement[bool]) -> dict[int, int]:
    """Lock these analyses (by id: the image's) and return those that nobody has taken since they were looked for."""
    lock_studies(session, [*rows.values()])
    still = select(Analysis.id).where(Analysis.id.in_(rows), _FREE, *where).order_by(Analysis.id).with_for_update()
    return {analysis_id: rows[analysis_id] for analysis_id in session.scalars(still)}


def _one_an_image(session: Session, rows: dict[int, int], digest: str, preprocessing_id: str) -> list[int]:
    """Return which of these analyses (by id: the image's) get this key; what their image does not need is deleted.

    An image has several that wait where it was refused while a worker read it, accepted again under another model, and
    the worker's lease was lost. None of them has a result; one that another is ended by, under its former key, would
    keep the image unread when that model is active again.
    """
    of_key = (
        Analysis.instance_id.in_(rows.values()),
        Analysis.model_digest == digest,
        Analysis.preprocessing_id == preprocessing_id,
    )
    _delete(session, *of_key, Analysis.state == "not_applicable", Analysis.id.not_in(rows))
    holders = session.execute(select(Analysis.instance_id, Analysis.id).where(*of_key))
    first: dict[int, int] = {row.instance_id: row.id for row in holders}
    for analysis_id, instance_id in sorted(rows.items()):
        first.setdefault(instance_id, analysis_id)
    kept = [analysis_id for analysis_id, instance_id in rows.items() if first[instance_id] == analysis_id]
    _delete(session, Analysis.id.in_(set(rows) - set(kept)), _FREE)
    return kept


def _delete(session: Session, *where: ColumnElement[bool]) -> None:
    session.execute(delete(Analysis).where(*where).execution_options(synchronize_session=False))


def _change(session: Session, ids: Collection[int], values: dict[str, Any]) -> int:
    """Change rows that nobody has taken meanwhile."""
    if not ids:
        return 0
    statement = update(Analysis).where(Analysis.id.in_(ids), _FREE).values(values)
    return changed_rows(session, statement.execution_options(synchronize_session=False))


def _parts(rows: dict[int, int]) -> Iterator[dict[int, int]]:
    pairs = list(rows.items())
    for start in range(0, len(pairs), _AT_ONCE):
        yield dict(pairs[start : start + _AT_ONCE])


def _no_model_for(row: Analysis, reason: str, now: datetime) -> None:
    row.model_digest = row.preprocessing_id = row.model_name = ""
    row.state, row.reason, row.enqueued_at, row.finished_at = "not_applicable", reason, None, now
    row.reason_code = ReasonCode.NO_MODEL_FOR_IMAGE
