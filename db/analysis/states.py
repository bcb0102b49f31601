"""The states that interfaces show are stored with image and study, so that showing and counting them reads an index.

Whoever changes a gate decision or an analysis calls `refresh` in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import and_, func, select, update

from db.analysis.current_result import shown
from db.engine.session import Session
from db.model_registry.activation import active_models
from db.tables.analyses import Analysis
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Study

REFUSED = "refused"  # by the gate; the other states of an image are those of the analysis that is shown
PENDING = "pending"  # also of an accepted image that has no analysis yet
_LEAST_FINISHED = ("running", PENDING, "done", "failed")  # a study is in the first of these that an image of it is in
_AT_ONCE = 500  # ids a statement; each is a bound variable, of which SQLite takes 32,766


@dataclass(frozen=True)
class _Analysed:
    instance_id: int
    model_digest: str
    state: str
    outside_domain: bool


def study_state(instance_states: Collection[str]) -> str:
    """Return the state of a study with images in these states; ``not_applicable`` where none has or gets a result."""
    return next((state for state in _LEAST_FINISHED if state in instance_states), "not_applicable")


def lock_studies(session: Session, instance_ids: Collection[int]) -> None:
    """Lock the studies of these images, before any image: what is derived of several rows is derived in turn."""
    session.execute(
        select(Study.id)
        .where(Study.id.in_(select(Instance.study_id).where(Instance.id.in_(instance_ids))))
        .order_by(Study.id)
        .with_for_update(key_share=True)  # not FOR UPDATE: a row that refers to the study locks its key (PostgreSQL)
    ).all()


def refresh(session: Session, instance_ids: Iterable[int]) -> None:
    """Store the states of these images and of their studies, whose gate decisions or analyses have changed."""
    ids = sorted(set(instance_ids))
    for start in range(0, len(ids), _AT_ONCE):
        _refresh(session, ids[start : start + _AT_ONCE])


def refresh_analysed(session: Session, analysis_ids: Iterable[int]) -> None:
    """Do as `refresh` does for the images of these analyses."""
    refresh(session, session.scalars(select(Analysis.instance_id).where(Analysis.id.in_(list(analysis_ids)))))


def refresh_several_analyses(session: Session) -> None:
    """Do as `refresh` does for the images of which another analysis may be shown once other models are active."""
    several = select(Analysis.instance_id).group_by(Analysis.instance_id).having(func.count() > 1)
    refresh(session, session.scalars(several).all())


def _refresh(session: Session, ids: list[int]) -> None:
    lock_studies(session, ids)
    decision = and_(GateDecision.instance_id == Instance.id, GateDecision.current.is_(True))
    images = session.execute(
        select(Instance.id, Instance.study_id, Instance.age_years, Instance.view, GateDecision.accepted)
        .join(GateDecision, decision)
        .where(Instance.id.in_(ids))
    ).all()
    analyses = [
        _Analysed(*row)
        for row in session.execute(
            select(Analysis.instance_id, Analysis.model_digest, Analysis.state, Analysis.outside_domain)
            .where(Analysis.instance_id.in_(ids))
            .order_by(Analysis.id)
        )
    ]
    wanted: dict[int, str] = {}
    if len({each.instance_id for each in analyses}) < len(analyses):
        models = active_models(session)
        chosen = ((image.id, models.reader_of(image.age_years, image.view)) for image in images)
        wanted = {instance_id: model.digest for instance_id, model in chosen if model is not None}
    current = shown(analyses, wanted)
    found: dict[tuple[str, bool], list[int]] = {}
    for image in images:
        analysis = current.get(image.id) if image.accepted else None
        state = REFUSED if not image.accepted else PENDING if analysis is None else analysis.state
        outside = analysis is not None and state == "done" and analysis.outside_domain
        found.setdefault((state, outside), []).append(image.id)
    for (state, outside), those in found.items():
        session.execute(update(Instance).where(Instance.id.in_(those)).values(state=state, outside_domain=outside))
    _refresh_studies(session, {image.study_id for image in images})


def _refresh_studies(session: Session, ids: Collection[int | None]) -> None:
    states: dict[int | None, set[str]] = {number: set() for number in ids}
    for number, state in session.execute(
        select(Instance.study_id, Instance.state).where(Instance.study_id.in_(ids)).distinct()
    ):
        states[number].add(state)
    found: dict[str, list[int | None]] = {}
    for number, of_images in states.items():
        found.setdefault(study_state(of_images), []).append(number)
    for state, those in found.items():
        session.execute(update(Study).where(Study.id.in_(those), Study.ai_state != state).values(ai_state=state))
