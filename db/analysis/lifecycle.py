"""The life of an analysis: claimed under a lease, ended by the claim that still holds it, else recovered.

An attempt is counted when the lease is taken, so that an image that kills its worker stops after ``max_attempts``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import and_, func, select, update

from db.analysis.states import lock_studies, lock_studies_of_analyses, refresh, refresh_analysed
from db.engine.leases import ENQUEUED_AHEAD, LONGEST_WAIT, Claimed, Leases
from db.engine.session import Session, changed_rows
from db.reasons import ReasonCode
from db.records import LIVE, AnalysisResult, ClaimedAnalysis, Queue, Triage
from db.tables.analyses import Analysis, Finding, LogitMaps
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Location, Study

_DIED = "the worker died while reading it"  # while it is not known how
_LEASES = Leases(Analysis, held="running")


def claim(
    session: Session, analysis_id: int, *, owner: str, now: datetime, lease: timedelta, max_attempts: int
) -> ClaimedAnalysis | None:
    """Take the lease of one analysis, counting the attempt; None if it is finished, leased, or out of attempts.

    An analysis out of attempts is failed here, keeping the last error. ``owner`` names the process that claims it.
    """
    lock_studies_of_analyses(session, [analysis_id])
    stop = (
        update(Analysis)
        .where(Analysis.id == analysis_id, _LEASES.claimable(now), Analysis.attempts >= max_attempts)
        .values(state="failed", finished_at=now, lease_owner=None, lease_until=None)
        .returning(Analysis.reason, Analysis.reason_code)
    )
    stopped = session.execute(stop).one_or_none()
    if stopped is not None:
        last, code = stopped if stopped.reason else (_DIED, ReasonCode.WORKER_LOST)
        session.execute(
            update(Analysis)
            .where(Analysis.id == analysis_id)
            .values(reason=f"stopped after {max_attempts} attempts: {last}", reason_code=code)
        )
        refresh_analysed(session, [analysis_id])
        _note_news(session, analysis_id, now)
        return None
    claim, taken = _LEASES.claim(session, [analysis_id], owner=owner, now=now, lease=lease)
    if not taken:
        return None
    row = session.execute(
        select(Analysis, Instance, Study)
        .join(Instance, Instance.id == Analysis.instance_id)
        .join(Study, Study.id == Instance.study_id)
        .where(Analysis.id == analysis_id)
        .execution_options(populate_existing=True)
    ).one()
    analysis, instance, study = row
    refresh(session, [instance.id])
    location = session.scalars(
        select(Location).where(Location.instance_id == instance.id).order_by(Location.id).limit(1)
    ).one()
    gate_flags = session.scalar(
        select(GateDecision.flags).where(GateDecision.instance_id == instance.id, GateDecision.current.is_(True))
    )
    return ClaimedAnalysis(
        id=analysis.id,
        claim=claim,
        instance_id=instance.id,
        study_id=study.id,
        study_instance_uid=study.study_instance_uid,
        sop_instance_uid=instance.sop_instance_uid or "",
        uri=location.uri,
        sha256=location.sha256,
        model_digest=analysis.model_digest,
        preprocessing_id=analysis.preprocessing_id,
        attempts=analysis.attempts,
        faults=analysis.faults,
        created_at=analysis.created_at,
        received_at=instance.received_at,
        correlation_id=instance.correlation_id,
        age_years=instance.age_years,
        view=instance.view,
        flags=(*instance.flags, *(gate_flags or ())),
    )


def read_as(session: Session, claimed: ClaimedAnalysis, preprocessing_id: str, now: datetime) -> ClaimedAnalysis | None:
    """Record a claimed analysis, which another version queued, under the preprocessing of the program that holds it.

    None, and it is not read, if this model has read the image with that preprocessing, or if the lease was lost.
    """
    lock_studies(session, [claimed.instance_id])
    key = (Analysis.instance_id == claimed.instance_id, Analysis.model_digest == claimed.model_digest)
    duplicate = session.scalar(select(Analysis.state).where(*key, Analysis.preprocessing_id == preprocessing_id))
    if duplicate is not None:
        reason = f"not read for {claimed.preprocessing_id}: for {preprocessing_id} it is {duplicate} already"
        end(session, claimed, state="not_applicable", reason=reason, code=ReasonCode.ALREADY_READ, now=now)
        return None
    renamed = update(Analysis).where(*_LEASES.held_by(claimed)).values(preprocessing_id=preprocessing_id)
    changed = changed_rows(session, renamed) == 1
    return replace(claimed, preprocessing_id=preprocessing_id) if changed else None


def complete(session: Session, claimed: ClaimedAnalysis, result: AnalysisResult, now: datetime) -> bool:
    """Store a result; False, and nothing is written, if the lease was lost, or the study removed."""
    lock_studies(session, [claimed.instance_id])
    ended = _LEASES.end(
        session,
        claimed,
        state="done",
        reason="",
        reason_code=ReasonCode.NONE,
        finished_at=now,
        engine=result.engine,
        precision=result.precision,
        application_version=result.application_version,
        ood_score=result.ood_score,
        flags=list(result.flags),
        outside_domain=result.outside_domain,
        record=result.record,
    )
    if not ended:
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
    refresh(session, [claimed.instance_id])
    _note_news(session, claimed.id, now)
    return True


def end(session: Session, claimed: Claimed, *, state: str, reason: str, code: ReasonCode, now: datetime) -> bool:
    """End a claimed analysis as ``failed`` or ``not_applicable`` with a reason; False if the lease was lost."""
    lock_studies_of_analyses(session, [claimed.id])
    ended = _LEASES.end(session, claimed, state=state, reason=reason, reason_code=code, finished_at=now)
    if ended:
        refresh_analysed(session, [claimed.id])
        _note_news(session, claimed.id, now)
    return ended


def _note_news(session: Session, analysis_id: int, now: datetime) -> None:
    """Put the study of an analysis that has ended on the open worklist: an end days after the image is news, too.

    One that a job brought to an old study is not.
    """
    study = (
        select(Instance.study_id)
        .join(Analysis, Analysis.instance_id == Instance.id)
        .where(Analysis.id == analysis_id, Analysis.queue == LIVE)
    )
    session.execute(
        update(Study).where(Study.id == study.scalar_subquery(), Study.latest_at < now).values(latest_at=now)
    )


def is_known(session: Session, analysis_id: int) -> bool:
    """Whether the analysis exists; it does not when its study was erased."""
    return session.scalar(select(Analysis.id).where(Analysis.id == analysis_id)) is not None


def give_back(session: Session, claimed: Claimed, *, reason: str, code: ReasonCode, retry_at: datetime | None) -> bool:
    """Give a claimed analysis back as pending.

    Parameters
    ----------
    retry_at
        Where the fault was the machine's and not the image's: when it is queued again. The attempt does not count then.
    """
    lock_studies_of_analyses(session, [claimed.id])
    waits = {} if retry_at is None else {"faults": Analysis.faults + 1, "retry_at": retry_at, "enqueued_at": None}
    given = _LEASES.give_back(session, claimed, counted=retry_at is None, reason=reason, reason_code=code, **waits)
    if given:
        refresh_analysed(session, [claimed.id])
    return given


def note_loss(session: Session, analysis_ids: Iterable[int], reason: str) -> int:
    """Record why the process died that read these, as the reason why they were tried again. Returns how many.

    The death of a process may be reported late: the image was released by then, tried by another process, or failed.
    """
    ids = list(analysis_ids)
    unfinished = (Analysis.id.in_(ids), Analysis.state.in_(("pending", "running")))
    unexplained = (
        Analysis.id.in_(ids),
        Analysis.state == "failed",
        Analysis.reason_code == ReasonCode.WORKER_LOST,
    )
    known = {"reason_code": ReasonCode.WORKER_DIED}
    changes = (
        update(Analysis).where(*unfinished).values(reason=reason, **known),
        update(Analysis).where(*unexplained).values(reason=func.replace(Analysis.reason, _DIED, reason), **known),
    )
    return sum(changed_rows(session, change) for change in changes)


def release_dead(session: Session, is_dead: Callable[[str], bool], now: datetime) -> int:
    """Free what dead processes hold, and what has outlived its lease, to be queued again at once. Returns how many."""
    dead = _LEASES.dead(session, is_dead, now)
    if not dead:
        return 0
    ids = [row.id for row in dead]
    lock_studies_of_analyses(session, ids)
    freed = _LEASES.free_dead(session, dead, enqueued_at=None)
    refresh_analysed(session, ids)
    return freed


def requeue_pending(
    session: Session, now: datetime, older_than: timedelta, limit: int, queue: Queue = LIVE
) -> list[int]:
    """Return up to ``limit`` analyses of a queue that nobody has queued, or ``older_than`` ago; marked as queued now.

    The smallest priority comes first; within it what was never queued, then what was queued longest ago, then what a
    fault of a machine gave back, once its time has come. A second scheduler passes over what this one has just taken.
    """
    of_queue = (Analysis.state == "pending", Analysis.queue == queue)
    # asked apart, each is a range of an index; with OR, all that is pending would be read every few seconds
    due = (
        and_(Analysis.enqueued_at.is_(None), Analysis.retry_at.is_(None)),
        Analysis.enqueued_at < now - older_than,
        Analysis.enqueued_at > now + ENQUEUED_AHEAD,
        and_(Analysis.enqueued_at.is_(None), Analysis.retry_at <= now),
        and_(Analysis.enqueued_at.is_(None), Analysis.retry_at > now + LONGEST_WAIT),
    )
    ids: list[int] = []
    priority = session.scalar(select(func.min(Analysis.priority)).where(*of_queue))
    while priority is not None and len(ids) < limit:
        pending = (
            select(Analysis.id)
            .where(*of_queue, Analysis.priority == priority)
            .order_by(Analysis.enqueued_at, Analysis.retry_at, Analysis.id)
            .with_for_update(skip_locked=True)
        )
        for when in due:
            ids += session.scalars(pending.where(when).limit(limit - len(ids)))
        priority = session.scalar(select(func.min(Analysis.priority)).where(*of_queue, Analysis.priority > priority))
    if ids:
        session.execute(update(Analysis).where(Analysis.id.in_(ids)).values(enqueued_at=now))
    return ids


def rank(session: Session, study_id: int, triage: Triage) -> None:
    """Set a study's rank on the worklist."""
    session.execute(
        update(Study)
        .where(Study.id == study_id)
        .values(priority=triage.priority, score=triage.score, reading_key=triage.reading_key)
    )


def arrival(session: Session, study_id: int) -> datetime:
    """Return when the study's first image arrived."""
    return session.execute(select(Study.arrived_at).where(Study.id == study_id)).scalar_one()
