"""The life of an analysis: claimed under a lease, ended by whoever still holds it, found again by the sweep.

Attempts are counted here, when the lease is taken, so that an image that kills its worker stops after `max_attempts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, and_, func, or_, select, update

from db.engine.leases import ENQUEUED_AHEAD, lease_is_over
from db.engine.session import Session
from db.records import AnalysisResult, ClaimedAnalysis, ObjectRecord, Triage
from db.tables.analyses import Analysis, Finding, LogitMaps
from db.tables.delivery import Delivery, MadeObject
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Location, Study

_DIED = "the worker died while reading it"  # when nobody has said how


def claim(
    session: Session, analysis_id: int, *, owner: str, now: datetime, lease: timedelta, max_attempts: int
) -> ClaimedAnalysis | None:
    """Take the lease of one analysis, counting the attempt; None if it is finished, leased, or out of attempts.

    An analysis out of attempts is failed here, keeping the last error.
    """
    free = or_(Analysis.state == "pending", and_(Analysis.state == "running", Analysis.lease_until < now))
    stop = (
        update(Analysis)
        .where(Analysis.id == analysis_id, free, Analysis.attempts >= max_attempts)
        .values(state="failed", finished_at=now, lease_owner=None, lease_until=None)
        .returning(Analysis.reason)
    )
    stopped = session.execute(stop).scalar_one_or_none()
    if stopped is not None:
        last = stopped or _DIED
        session.execute(
            update(Analysis)
            .where(Analysis.id == analysis_id)
            .values(reason=f"stopped after {max_attempts} attempts: {last}")
        )
        return None
    taken = (
        update(Analysis)
        .where(Analysis.id == analysis_id, free)
        .values(state="running", lease_owner=owner, lease_until=now + lease, attempts=Analysis.attempts + 1)
    )
    if not _changed(session, taken):
        return None
    row = session.execute(
        select(Analysis, Instance, Study)
        .join(Instance, Instance.id == Analysis.instance_id)
        .join(Study, Study.id == Instance.study_id)
        .where(Analysis.id == analysis_id)
        .execution_options(populate_existing=True)
    ).one()
    analysis, instance, study = row
    location = session.scalars(
        select(Location).where(Location.instance_id == instance.id).order_by(Location.id).limit(1)
    ).one()
    gate_flags = session.scalar(
        select(GateDecision.flags).where(GateDecision.instance_id == instance.id, GateDecision.current.is_(True))
    )
    return ClaimedAnalysis(
        id=analysis.id,
        instance_id=instance.id,
        study_id=study.id,
        study_instance_uid=study.study_instance_uid,
        sop_instance_uid=instance.sop_instance_uid or "",
        uri=location.uri,
        sha256=location.sha256,
        model_digest=analysis.model_digest,
        preprocessing_id=analysis.preprocessing_id,
        attempts=analysis.attempts,
        created_at=analysis.created_at,
        received_at=instance.received_at,
        correlation_id=instance.correlation_id,
        age_years=instance.age_years,
        view=instance.view,
        flags=(*instance.flags, *(gate_flags or ())),
    )


def read_as(
    session: Session, claimed: ClaimedAnalysis, owner: str, preprocessing_id: str, now: datetime
) -> ClaimedAnalysis | None:
    """Let a claimed analysis be what the program that holds it makes: another version queued it.

    None, and it is not read, if this model has read the image so already, or the lease was lost.
    """
    session.execute(select(Instance.id).where(Instance.id == claimed.instance_id).with_for_update())
    key = (Analysis.instance_id == claimed.instance_id, Analysis.model_digest == claimed.model_digest)
    twin = session.scalar(select(Analysis.state).where(*key, Analysis.preprocessing_id == preprocessing_id))
    if twin is not None:
        reason = f"not read for {claimed.preprocessing_id}: for {preprocessing_id} it is {twin} already"
        end(session, claimed.id, owner, state="not_applicable", reason=reason, now=now)
        return None
    renamed = update(Analysis).where(*_held(claimed.id, owner)).values(preprocessing_id=preprocessing_id)
    return replace(claimed, preprocessing_id=preprocessing_id) if _changed(session, renamed) else None


def complete(session: Session, claimed: ClaimedAnalysis, owner: str, result: AnalysisResult, now: datetime) -> bool:
    """Store a result with its objects and outbox rows; False, and nothing is written, if the lease was lost."""
    ended = (
        update(Analysis)
        .where(*_held(claimed.id, owner))
        .values(
            state="done",
            reason="",
            finished_at=now,
            lease_owner=None,
            lease_until=None,
            engine=result.engine,
            precision=result.precision,
            application_version=result.application_version,
            ood_score=result.ood_score,
            flags=list(result.flags),
            outside_domain=result.outside_domain,
            record=result.record,
        )
    )
    if not _changed(session, ended):
        return False
    session.add_all(
        Finding(
            analysis_id=claimed.id,
            position=position,
            label=finding.label,
            probability=finding.probability,
            logit=finding.logit,
            threshold=finding.threshold,
            positive=finding.positive,
        )
        for position, finding in enumerate(result.findings)
    )
    session.add(LogitMaps(analysis_id=claimed.id, data=result.maps, affine=list(result.affine)))
    for made in result.objects:
        _add_object(session, claimed, made, now)
    return True


def end(session: Session, analysis_id: int, owner: str, *, state: str, reason: str, now: datetime) -> bool:
    """End a claimed analysis as ``failed`` or ``not_applicable`` with a reason a person can read."""
    statement = (
        update(Analysis)
        .where(*_held(analysis_id, owner))
        .values(state=state, reason=reason, finished_at=now, lease_owner=None, lease_until=None)
    )
    return _changed(session, statement)


def is_known(session: Session, analysis_id: int) -> bool:
    """Whether the analysis exists; it does not when its study was forgotten."""
    return session.scalar(select(Analysis.id).where(Analysis.id == analysis_id)) is not None


def give_back(session: Session, analysis_id: int, owner: str, *, reason: str, counted: bool) -> bool:
    """Give a claimed analysis back as pending; ``counted=False`` where the fault was the machine's, not the image's."""
    values: dict[str, Any] = {"state": "pending", "reason": reason, "lease_owner": None, "lease_until": None}
    if not counted:
        values["attempts"] = Analysis.attempts - 1
    return _changed(session, update(Analysis).where(*_held(analysis_id, owner)).values(values))


def note_loss(session: Session, analysis_ids: Iterable[int], reason: str) -> int:
    """Keep why the process died that read one of these, for whoever asks why it was tried again. Returns how many.

    Who sees a process die may say so late: the image was freed by then, tried by another, or failed.
    """
    ids = list(analysis_ids)
    unfinished = (Analysis.id.in_(ids), Analysis.state.in_(("pending", "running")))
    unexplained = (Analysis.id.in_(ids), Analysis.state == "failed", Analysis.reason.endswith(_DIED))
    changes = (
        update(Analysis).where(*unfinished).values(reason=reason),
        update(Analysis).where(*unexplained).values(reason=func.replace(Analysis.reason, _DIED, reason)),
    )
    return sum(cast("CursorResult[Any]", session.execute(change)).rowcount for change in changes)


def release_dead(session: Session, is_dead: Callable[[str], bool], now: datetime) -> int:
    """Give back what is leased by processes known to be dead, and what has outlived its lease. Returns how many."""
    running = session.execute(
        select(Analysis.id, Analysis.lease_owner, Analysis.lease_until).where(Analysis.state == "running")
    ).all()
    freed = 0
    for analysis_id, owner, until in running:
        if owner is None or lease_is_over(until, now) or is_dead(owner):
            guard = (Analysis.id == analysis_id, Analysis.state == "running", Analysis.lease_owner == owner)
            freed += _changed(
                session,
                update(Analysis)
                .where(*guard)
                .values(state="pending", lease_owner=None, lease_until=None, enqueued_at=None),
            )
    return freed


def requeue_pending(session: Session, now: datetime, older_than: timedelta, limit: int) -> list[int]:
    """Return up to ``limit`` pending analyses never rung for, or longest ago and before ``older_than``; marked as rung.

    A second scheduler passes over what this one has just taken.
    """
    pending = (
        select(Analysis.id)
        .where(Analysis.state == "pending")
        .order_by(Analysis.enqueued_at, Analysis.id)
        .with_for_update(skip_locked=True)
    )
    # asked apart, each is a range of an index; with OR, all that is pending would be read every few seconds
    ids = list(session.scalars(pending.where(Analysis.enqueued_at.is_(None)).limit(limit)))
    ids += session.scalars(pending.where(Analysis.enqueued_at < now - older_than).limit(limit - len(ids)))
    ids += session.scalars(pending.where(Analysis.enqueued_at > now + ENQUEUED_AHEAD).limit(limit - len(ids)))
    if ids:
        session.execute(update(Analysis).where(Analysis.id.in_(ids)).values(enqueued_at=now))
    return ids


def rank(session: Session, study_id: int, triage: Triage) -> None:
    """Set a study's place on the worklist."""
    session.execute(
        update(Study)
        .where(Study.id == study_id)
        .values(priority=triage.priority, score=triage.score, reading_key=triage.reading_key)
    )


def arrival(session: Session, study_id: int) -> datetime:
    """Return when the study's first image arrived."""
    return session.execute(select(Study.arrived_at).where(Study.id == study_id)).scalar_one()


def _add_object(session: Session, claimed: ClaimedAnalysis, made: ObjectRecord, now: datetime) -> None:
    row = MadeObject(
        kind=made.kind,
        subject_uid=claimed.sop_instance_uid,
        model_digest=claimed.model_digest,
        preprocessing_id=claimed.preprocessing_id,
        label=made.label,
        variant=made.variant,
        revision=made.revision,
        study_id=claimed.study_id,
        analysis_id=claimed.id,
        sop_instance_uid=made.sop_instance_uid,
        uri=made.uri,
        sha256=made.sha256,
        size=made.size,
        created_at=claimed.created_at,
    )
    session.add(row)
    session.flush()
    session.add_all(
        Delivery(object_id=row.id, destination=name, state="pending", next_attempt_at=now, created_at=now)
        for name in made.destinations
    )


def _held(analysis_id: int, owner: str) -> tuple[Any, ...]:
    return (Analysis.id == analysis_id, Analysis.state == "running", Analysis.lease_owner == owner)


def _changed(session: Session, statement: Any) -> bool:  # noqa: ANN401 - an UPDATE of any table
    result = cast("CursorResult[Any]", session.execute(statement))
    return result.rowcount == 1
