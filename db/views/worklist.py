"""The worklist: the studies in reading order, and what was made of one study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select

from db.analysis.current_result import maxima
from db.analysis.states import PENDING
from db.engine.session import Session
from db.intake.misfiled_instances import MISFILED, NOTHING_LEFT, misfiled_note
from db.reasons import ReasonCode
from db.records import Decision, WorklistItem
from db.tables.analyses import Analysis
from db.tables.delivery import MadeObject
from db.tables.studies import Study
from db.views.loaded_studies import LoadedStudies, load_studies

_STUDIES_AT_ONCE = 500  # each is a bound variable, of which SQLite takes 32,766 a statement and PostgreSQL 65,535
PRIORITIES = ("HIGH", "MEDIUM", "LOW")
_NO_MODEL = "no model is active: received and waiting ('cxr-triage model activate NAME')"


@dataclass(frozen=True)
class Wanted:
    """Which studies are looked for; what is not named may be anything.

    Attributes
    ----------
    since
        The open list: studies of which something was heard after this, a live image or the result of one.
    until
        The earlier ones: studies of which nothing was heard since this.
    patient_id, accession_number, study_date
        Exactly this value, as it was received.
    priority
        HIGH, MEDIUM or LOW.
    """

    since: datetime | None = None
    until: datetime | None = None
    patient_id: str = ""
    accession_number: str = ""
    study_date: str = ""
    priority: str = ""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions on a study; one that only an archive has brought meets none."""
        found: list[ColumnElement[bool]] = [Study.latest_at.is_not(None)]
        if self.since is not None:
            found = [Study.latest_at > self.since]
        if self.until is not None:
            found.append(Study.latest_at <= self.until)
        for name in ("patient_id", "accession_number", "study_date", "priority"):
            if value := getattr(self, name):
                found.append(getattr(Study, name) == value)
        return found


_ALL = Wanted()


def worklist(session: Session, limit: int | None = None, offset: int = 0, wanted: Wanted = _ALL) -> list[WorklistItem]:
    """Return studies in reading order, greatest ``reading_key`` first, from the ``offset``-th on."""
    return items_of(session, in_reading_order(session, limit, offset, wanted))


def in_reading_order(session: Session, limit: int | None, offset: int, wanted: Wanted) -> list[Study]:
    """Return the rows of what `worklist` returns."""
    order = select(Study.id).where(*wanted.conditions()).order_by(Study.reading_key.desc(), Study.id)
    # by the index alone; whole rows are fetched of those that are shown
    ids = session.scalars(order.limit(limit).offset(offset)).all()
    found = {
        study.id: study
        for start in range(0, len(ids), _STUDIES_AT_ONCE)
        for study in session.scalars(select(Study).where(Study.id.in_(ids[start : start + _STUDIES_AT_ONCE])))
    }
    return [found[number] for number in ids if number in found]


def newest_first(
    session: Session, limit: int, wanted: Wanted = _ALL, before: tuple[datetime, int] | None = None
) -> list[Study]:
    """Return the ``limit`` studies of which something was heard last, of those ``before`` this one's time and id."""
    if before is not None:
        time, number = before
        wanted = replace(wanted, until=time if wanted.until is None else min(time, wanted.until))
    query = select(Study).where(*wanted.conditions())
    if (
        before is not None
    ):  # two comparisons, of which the first is the range of an index: SQLite makes none of a pair's
        query = query.where(or_(Study.latest_at < time, Study.id < number))
    return list(session.scalars(query.order_by(Study.latest_at.desc(), Study.id.desc()).limit(limit)))


def priorities(session: Session, wanted: Wanted) -> dict[str, int]:
    """Return how many of the studies have each priority; those that none has are left out."""
    # asked apart, each is a range of an index; grouped, SQLite would read an index of all studies
    counts = {
        name: int(session.scalar(select(func.count()).where(*replace(wanted, priority=name).conditions())) or 0)
        for name in PRIORITIES
        if wanted.priority in ("", name)
    }
    return {name: number for name, number in counts.items() if number}


def study_item(session: Session, study_instance_uid: str) -> WorklistItem | None:
    """Return one study as it stands on the worklist."""
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
    return None if study is None else items_of(session, [study])[0]


def object_uris(session: Session, study_instance_uid: str) -> list[tuple[str, str, str]]:
    """Return (kind, label, uri) of the objects made for a study, oldest first."""
    rows = session.execute(
        select(MadeObject.kind, MadeObject.label, MadeObject.uri)
        .join(Study, Study.id == MadeObject.study_id)
        .where(Study.study_instance_uid == study_instance_uid)
        .order_by(MadeObject.id)
    )
    return [(kind, label, uri) for kind, label, uri in rows]


def items_of(session: Session, studies: Sequence[Study]) -> list[WorklistItem]:
    """Return these studies as the worklist shows them, in this order."""
    return [
        item_of(study, loaded)
        for start in range(0, len(studies), _STUDIES_AT_ONCE)
        for part in [studies[start : start + _STUDIES_AT_ONCE]]
        for loaded in [load_studies(session, part)]
        for study in part
    ]


def item_of(study: Study, loaded: LoadedStudies) -> WorklistItem:
    """Return one of the studies that were loaded as the worklist shows it."""
    instances = loaded.instances.get(study.id, [])
    decisions = [loaded.decisions[instance.id][-1] for instance in instances]
    misfiled = loaded.misfiled.get(study.id, ())
    analyses = [
        loaded.analyses[instance.id]
        for instance, decision in zip(instances, decisions, strict=True)
        if decision.accepted and instance.id in loaded.analyses
    ]
    reason, code = _reason(study.ai_state, analyses, decisions, not loaded.models, misfiled_note(misfiled))
    done = [analysis for analysis in analyses if analysis.state == "done"]
    # an image outside its model's domain must not hide behind one inside: the flags of all images are shown
    flags = [MISFILED] if misfiled else []
    flags += [flag for instance in instances for flag in instance.flags]
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
        findings=maxima(finding for analysis in inside or done for finding in loaded.findings[analysis.id]),
        model=", ".join(dict.fromkeys(analysis.model_name for analysis in done)),
        reason_code=code,
        latest_at=study.latest_at,
    )


def _reason(
    state: str, analyses: list[Analysis], decisions: list[Decision], no_model: bool, misfiled: str
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
