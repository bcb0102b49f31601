"""The worklist: the studies in reading order, and what was made of one study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select

from db.analysis.current_result import findings_of, maxima, model_digests, shown
from db.analysis.states import PENDING
from db.engine.session import Session
from db.intake.gate_decisions import current
from db.intake.misfiled_instances import MISFILED, NOTHING_LEFT, MisfiledInstance, misfiled_instances_of, misfiled_note
from db.model_registry.activation import active_models
from db.reasons import ReasonCode
from db.records import FindingRecord, WorklistItem
from db.tables.analyses import Analysis
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
    latest = shown(rows, model_digests(every, models))
    findings = findings_of(session, [analysis.id for analysis in latest.values()])
    misfiled = misfiled_instances_of(session, ids)
    return [
        _item(study, instances[study.id], latest, findings, not models, misfiled.get(study.id, ())) for study in studies
    ]


def _item(
    study: Study,
    instances: list[tuple[Instance, GateDecision]],
    latest: dict[int, Analysis],
    findings: defaultdict[int, list[FindingRecord]],
    no_model: bool,
    misfiled: Sequence[MisfiledInstance],
) -> WorklistItem:
    analyses = [latest[instance.id] for instance, decision in instances if decision.accepted and instance.id in latest]
    decisions = [decision for _, decision in instances]
    reason, code = _reason(study.ai_state, analyses, decisions, no_model, misfiled_note(misfiled))
    done = [analysis for analysis in analyses if analysis.state == "done"]
    # an image outside its model's domain must not hide behind one inside: the flags of all images are shown
    flags = [MISFILED] if misfiled else []
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
        state=study.ai_state,
        reason=reason,
        flags=tuple(dict.fromkeys(flags)),
        findings=maxima(finding for analysis in inside or done for finding in findings[analysis.id]),
        model=", ".join(dict.fromkeys(analysis.model_name for analysis in done)),
        reason_code=code,
    )


def _reason(
    state: str, analyses: list[Analysis], decisions: list[GateDecision], no_model: bool, misfiled: str
) -> tuple[str, str]:
    """Why a study is in its state, in words and as code; what was not read is always said."""
    of_state = [analysis for analysis in analyses if analysis.state == state]
    if state in ("running", PENDING):
        if of_state:
            waiting = next((analysis for analysis in of_state if analysis.reason), of_state[0])
            return waiting.reason, waiting.reason_code
        if no_model:
            return _NO_MODEL, ReasonCode.NO_MODEL_ACTIVE
        return "accepted, about to be queued", ReasonCode.ABOUT_TO_BE_QUEUED
    if state == "failed":
        code = next((analysis.reason_code for analysis in of_state), str(ReasonCode.OTHER))
        return "; ".join(analysis.reason for analysis in of_state), code
    refused = [decision.reason for decision in decisions if not decision.accepted]
    if misfiled:
        refused.append(misfiled)
    elif not decisions:
        refused.append(NOTHING_LEFT)
    if state == "done":
        unread = [
            f"{analysis.state}: {analysis.reason}"
            for analysis in analyses
            if analysis.state in ("failed", "not_applicable")
        ]
        notes = "; ".join(dict.fromkeys([*unread, *refused]))
        return (f"not read: {notes}", ReasonCode.PARTLY_READ) if notes else ("", ReasonCode.NONE)
    if analyses:
        code = analyses[0].reason_code
    elif decisions:
        code = ReasonCode.REFUSED_BY_GATE
    else:
        code = ReasonCode.MISFILED if misfiled else ReasonCode.NO_IMAGE
    return "; ".join(dict.fromkeys([analysis.reason for analysis in analyses] + refused)), code
