"""The studies as a reader sees them, in reading order, and what was made of one study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select

from db.analysis.current_result import maxima, readers, shown
from db.engine.session import Session
from db.intake.gate_decisions import current
from db.intake.misfiled_instances import MISFILED, NOTHING_LEFT, MisfiledInstance, misfiled_instances_of, misfiled_note
from db.model_registry.activation import active_models
from db.reasons import ReasonCode
from db.records import WorklistItem
from db.tables.analyses import Analysis, Finding
from db.tables.delivery import MadeObject
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Study

_STUDIES_AT_ONCE = 500  # each is a bound variable, of which SQLite takes 32,766 a statement and PostgreSQL 65,535
_NO_MODEL = "no model is active: received and waiting ('cxr-triage model activate NAME')"


def worklist(session: Session, limit: int | None = None, offset: int = 0) -> list[WorklistItem]:
    """Return the studies in reading order, greatest ``reading_key`` first, from the ``offset``-th on."""
    order = select(Study).order_by(Study.reading_key.desc(), Study.id)
    studies = session.scalars(order.limit(limit).offset(offset)).all()
    return [
        item
        for start in range(0, len(studies), _STUDIES_AT_ONCE)
        for item in _items(session, studies[start : start + _STUDIES_AT_ONCE])
    ]


def study_item(session: Session, study_instance_uid: str) -> WorklistItem | None:
    """Return one study as it stands on the worklist."""
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
    return None if study is None else _items(session, [study])[0]


def object_uris(session: Session, study_instance_uid: str) -> list[tuple[str, str, str]]:
    """Return (kind, label, uri) of the objects made for a study, oldest first."""
    rows = session.execute(
        select(MadeObject.kind, MadeObject.label, MadeObject.uri)
        .join(Study, Study.id == MadeObject.study_id)
        .where(Study.study_instance_uid == study_instance_uid)
        .order_by(MadeObject.id)
    )
    return [(kind, label, uri) for kind, label, uri in rows]


def _items(session: Session, studies: Sequence[Study]) -> list[WorklistItem]:
    ids = [study.id for study in studies]
    models = active_models(session)
    instances: dict[int, list[tuple[Instance, GateDecision]]] = defaultdict(list)
    for instance, decision in session.execute(
        select(Instance, GateDecision)
        .join(GateDecision, current())
        .where(Instance.study_id.in_(ids))
        .order_by(Instance.id)
    ):
        instances[instance.study_id or 0].append((instance, decision))
    rows = session.scalars(
        select(Analysis)
        .join(Instance, Instance.id == Analysis.instance_id)
        .where(Instance.study_id.in_(ids))
        .order_by(Analysis.id)
    )
    every = [instance for pairs in instances.values() for instance, _ in pairs]
    latest = shown(rows, readers(every, models))
    findings: dict[int, list[Finding]] = defaultdict(list)
    for finding in session.scalars(
        select(Finding)
        .where(Finding.analysis_id.in_([analysis.id for analysis in latest.values()]))
        .order_by(Finding.analysis_id, Finding.position)
    ):
        findings[finding.analysis_id].append(finding)
    strays = misfiled_instances_of(session, ids)
    return [
        _item(study, instances[study.id], latest, findings, not models, strays.get(study.id, ())) for study in studies
    ]


def _item(
    study: Study,
    instances: list[tuple[Instance, GateDecision]],
    latest: dict[int, Analysis],
    findings: dict[int, list[Finding]],
    no_model: bool,
    strays: Sequence[MisfiledInstance],
) -> WorklistItem:
    analyses = [latest[instance.id] for instance, _ in instances if instance.id in latest]
    waits = any(decision.accepted and instance.id not in latest for instance, decision in instances)
    state, reason, code = _state(
        analyses, [decision for _, decision in instances], waits, no_model, misfiled_note(strays)
    )
    done = [analysis for analysis in analyses if analysis.state == "done"]
    # an image outside its model's domain must not hide behind one inside: the flags of all images are shown
    flags = [MISFILED] if strays else []
    flags += [flag for instance, _ in instances for flag in instance.flags]
    flags += [flag for analysis in done for flag in analysis.flags]
    inside = [analysis for analysis in done if not analysis.outside_domain]
    return WorklistItem(
        study_instance_uid=study.study_instance_uid,
        accession_number=study.accession_number,
        patient_id=study.patient_id,
        patient_name=study.patient_name,
        study_date=study.study_date,
        priority=study.priority,
        score=study.score,
        arrived_at=study.arrived_at,
        state=state,
        reason=reason,
        flags=tuple(dict.fromkeys(flags)),
        findings=maxima([finding for analysis in inside or done for finding in findings[analysis.id]]),
        model=", ".join(dict.fromkeys(analysis.model_name for analysis in done)),
        reason_code=code,
    )


def _state(
    analyses: list[Analysis], decisions: list[GateDecision], waits: bool, no_model: bool, stray: str
) -> tuple[str, str, str]:
    """State, reason and its code: the state is that of the least finished image; what was not read is in the reason."""
    unread = [
        f"{analysis.state}: {analysis.reason}"
        for analysis in analyses
        if analysis.state in ("failed", "not_applicable")
    ]
    refused = [decision.reason for decision in decisions if not decision.accepted]
    if stray:
        refused.append(stray)
    elif not decisions:
        refused.append(NOTHING_LEFT)
    for state in ("running", "pending"):
        chosen = [analysis for analysis in analyses if analysis.state == state]
        if chosen:
            waiting = next((analysis for analysis in chosen if analysis.reason), chosen[0])
            return state, waiting.reason, waiting.reason_code
    if waits and no_model:
        return "pending", _NO_MODEL, ReasonCode.NO_MODEL_ACTIVE
    if waits:
        return "pending", "accepted, about to be queued", ReasonCode.ABOUT_TO_BE_QUEUED
    notes = "; ".join(dict.fromkeys([*unread, *refused]))
    if any(analysis.state == "done" for analysis in analyses):
        return ("done", f"not read: {notes}", ReasonCode.PARTLY_READ) if notes else ("done", "", ReasonCode.NONE)
    failed = [analysis for analysis in analyses if analysis.state == "failed"]
    if failed:
        return "failed", "; ".join(analysis.reason for analysis in failed), failed[0].reason_code
    if analyses:
        code = analyses[0].reason_code
    elif decisions:
        code = ReasonCode.REFUSED_BY_GATE
    else:
        code = ReasonCode.MISFILED if stray else ReasonCode.NO_IMAGE
    return "not_applicable", "; ".join(dict.fromkeys([analysis.reason for analysis in analyses] + refused)), code
