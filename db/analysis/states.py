"""The states that interfaces show are stored with image and study, so that showing and counting them reads an index.

Whoever changes a gate decision or an analysis calls `refresh` in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import BindParameter, and_, bindparam, case, exists, func, select, update

from db.analysis.current_result import shown
from db.engine.session import Session
from db.model_registry.activation import active_models
from db.tables.analyses import Analysis
from db.tables.base import Base
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Study

REFUSED = "refused"  # by the gate; the other states of an image are those of the analysis that is shown
PENDING = "pending"  # also of an accepted image that has no analysis yet
_LEAST_FINISHED = ("running", PENDING, "done", "failed")  # a study is in the first of these that an image of it is in
_AT_ONCE = 500  # ids a statement; each is a bound variable, of which SQLite takes 32,766


# made once: to put them together would cost more time than to run them
_OF_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_IMAGES = (
    select(
        Instance.id,
        Instance.study_id,
        Instance.age_years,
        Instance.view,
        Instance.state.label("before"),
        Instance.outside_domain.label("outside_before"),
        GateDecision.accepted,
        Analysis.model_digest,
        Analysis.state,
        Analysis.outside_domain,
    )
    .join(GateDecision, and_(GateDecision.instance_id == Instance.id, GateDecision.current.is_(True)))
    .outerjoin(Analysis, Analysis.instance_id == Instance.id)
    .where(Instance.id.in_(_OF_IDS))
    .order_by(Analysis.id)
)
_CHANGE_IMAGES = (
    update(Base.metadata.tables[Instance.__tablename__])
    .where(Instance.id.in_(_OF_IDS))
    .values(state=bindparam("new_state"), outside_domain=bindparam("new_outside"))
)
_CHANGE_STUDIES = (
    update(Base.metadata.tables[Study.__tablename__])
    .where(Study.id.in_(_OF_IDS))
    .values(
        ai_state=case(
            *(
                (exists().where(Instance.study_id == Study.id, Instance.state == state).correlate(Study), state)
                for state in _LEAST_FINISHED
            ),
            else_="not_applicable",
        )
    )
)
# not FOR UPDATE: every row that refers to a study locks its key
_LOCK_STUDIES = (
    select(Study.id)
    .where(Study.id.in_(select(Instance.study_id).where(Instance.id.in_(_OF_IDS))))
    .order_by(Study.id)
    .with_for_update(key_share=True)
)
_LOCK_STUDIES_OF_ANALYSES = (
    select(Study.id)
    .where(
        Study.id.in_(
            select(Instance.study_id)
            .join(Analysis, Analysis.instance_id == Instance.id)
            .where(Analysis.id.in_(_OF_IDS))
        )
    )
    .order_by(Study.id)
    .with_for_update(key_share=True)
)


@dataclass(frozen=True)
class _Analysed:
    instance_id: int
    model_digest: str
    state: str
    outside_domain: bool


def refresh(session: Session, instance_ids: Iterable[int]) -> None:
    """Store the states of these images and of their studies, whose gate decisions or analyses have changed."""
    ids = sorted(set(instance_ids))
    for start in range(0, len(ids), _AT_ONCE):
        _refresh(session, ids[start : start + _AT_ONCE])


def refresh_analysed(session: Session, analysis_ids: Sequence[int]) -> None:
    """Do as `refresh` does for the images of these analyses, of which there are few."""
    refresh(session, session.scalars(select(Analysis.instance_id).where(Analysis.id.in_(analysis_ids))))


def several_analyses(session: Session) -> Sequence[int]:
    """Return the images of which another analysis may be shown once other models are active: `refresh` them then."""
    return session.scalars(select(Analysis.instance_id).group_by(Analysis.instance_id).having(func.count() > 1)).all()


def lock_studies(session: Session, instance_ids: Sequence[int]) -> None:
    """Lock the studies of these images, before any image: what is derived of several rows is derived in turn."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
        session.execute(_LOCK_STUDIES, {"ids": instance_ids}).all()


def lock_studies_of_analyses(session: Session, analysis_ids: Sequence[int]) -> None:
    """Lock the studies of these analyses, before any of them changes: who removes a study locks it first, too."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOCK_STUDIES_OF_ANALYSES, {"ids": analysis_ids}).all()


def _refresh(session: Session, ids: Sequence[int]) -> None:
    lock_studies(session, ids)
    rows = session.execute(_IMAGES, {"ids": ids}).all()
    images = {row.id: row for row in rows}
    wanted: dict[int, str] = {}
    if len(images) < len(rows):  # some have several analyses
        models = active_models(session)
        readers = ((image.id, models.model_for(image.age_years, image.view)) for image in images.values())
        wanted = {instance_id: model.digest for instance_id, model in readers if model is not None}
    analyses = (_Analysed(row.id, row.model_digest, row.state, row.outside_domain) for row in rows if row.state)
    current = shown(analyses, wanted)
    changed: dict[tuple[str, bool], list[int]] = {}
    for image in images.values():
        analysis = current.get(image.id) if image.accepted else None
        state = REFUSED if not image.accepted else PENDING if analysis is None else analysis.state
        outside = analysis is not None and state == "done" and analysis.outside_domain
        if (state, outside) != (image.before, image.outside_before):
            changed.setdefault((state, outside), []).append(image.id)
    for (state, outside), those in changed.items():
        session.execute(_CHANGE_IMAGES, {"ids": those, "new_state": state, "new_outside": outside})
    if changed:
        studies = {images[number].study_id for those in changed.values() for number in those}
        session.execute(_CHANGE_STUDIES, {"ids": sorted(studies)})
