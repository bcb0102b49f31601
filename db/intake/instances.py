"""Recording what arrived: instance, location, gate decision and pending analysis, in the caller's one transaction."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from db.analysis.planning import new_analysis, queue_of, read_after_all
from db.analysis.states import refresh
from db.engine.file_locks import share_file
from db.engine.session import Session
from db.intake.gate_decisions import add_decision
from db.intake.identity_conflicts import contradictions, contradictions_of_repeat, fill_in
from db.model_registry.activation import active_models
from db.records import NewInstance, Queued, Recorded
from db.tables.analyses import Analysis
from db.tables.delivery import MadeObject
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Location, MisfiledLocation, Study


class RecordedElsewhere(Exception):
    """Another process recorded the same UID at the same moment; run the transaction again to meet its rows."""


def is_own_object(session: Session, sop_instance_uid: str) -> bool:
    """Whether this installation made the object itself (and so must never analyse it)."""
    return session.scalar(select(MadeObject.id).where(MadeObject.sop_instance_uid == sop_instance_uid)) is not None


def record_instance(session: Session, new: NewInstance) -> Recorded:
    """Record a received instance, keyed by its SOP Instance UID.

    The same bytes again add nothing; where the store had lost them, they are read after all. Other bytes under the
    same UID are kept beside the first and flagged, never read in their place; a study that they name instead is on the
    worklist too and says where they are. What contradicts its study is kept and flagged. Rows that are met are locked,
    so that of two senders at once neither overwrites what the other has noted.

    Raises
    ------
    RecordedElsewhere
        If another process inserted the same study or instance first; the transaction must be run again.
    """
    # study before image, as everybody locks them (`db.analysis.states`)
    study = session.scalar(
        select(Study).where(Study.study_instance_uid == new.study.study_instance_uid).with_for_update(key_share=True)
    )
    known = session.scalar(
        select(Instance).where(Instance.sop_instance_uid == new.sop_instance_uid).with_for_update(key_share=True)
    )
    if known is not None:
        return _record_again(session, known, new)
    flags: list[str] = []
    if study is None:
        study = _new_study(new)
        session.add(study)
    else:
        flags = contradictions(study, new.study)
        fill_in(study, new.study)
        _heard_of(study, new)
    try:
        session.flush()
        instance = Instance(
            study_id=study.id,
            sop_instance_uid=new.sop_instance_uid,
            sop_class_uid=new.sop_class_uid,
            series_instance_uid=new.series_instance_uid,
            transfer_syntax_uid=new.transfer_syntax_uid,
            origin=new.origin,
            calling_ae=new.calling_ae,
            correlation_id=new.correlation_id,
            received_at=new.received_at,
            age_years=new.age_years,
            view=new.view,
            flags=flags,
        )
        session.add(instance)
        session.flush()
    except IntegrityError:
        raise RecordedElsewhere(new.sop_instance_uid) from None  # the driver's own text may quote the row
    share_file(session, new.uri)
    session.add(_location(instance.id, new))
    decision = new.decision
    models = active_models(session)
    waits = decision.accepted and not models and new.origin == "live"
    add_decision(session, instance, decision, new.received_at, waits=waits)
    queued = None
    if decision.accepted and models:
        analysis = new_analysis(instance, models, new.sha256, new.received_at, priority=new.priority, job_id=new.job_id)
        session.add(analysis)
        session.flush()
        queued = Queued(analysis.id, queue_of(instance)) if analysis.state == "pending" else None
    refresh(session, [instance.id])
    return Recorded("new", instance.id, queued)


def _record_again(session: Session, known: Instance, new: NewInstance) -> Recorded:
    study = session.get_one(Study, known.study_id)
    queued = _now_live(session, known, study, new) if (known.origin, new.origin) == ("archive", "live") else None
    same = session.scalar(select(Location.id).where(Location.instance_id == known.id, Location.sha256 == new.sha256))
    if same is not None:
        read_after_all(session, known.id, new.sha256)
        return Recorded("same", known.id, queued)
    _heard_of(study, new)
    flags = contradictions_of_repeat(
        study,
        new.study,
        series_instance_uid=new.series_instance_uid,
        known_series_instance_uid=known.series_instance_uid,
    )
    share_file(session, new.uri)
    location = _location(known.id, new)
    session.add(location)
    known.flags = list(dict.fromkeys([*known.flags, *flags]))
    if new.study.study_instance_uid != study.study_instance_uid:
        _note_misfiled(session, location, new)
    return Recorded("different", known.id, queued)


def _heard_of(study: Study, new: NewInstance) -> None:
    """Put a study on the open worklist for what has arrived live; one that was an archive's alone begins to wait."""
    if new.origin != "live":
        return
    if study.latest_at is None:
        study.reading_key -= (new.received_at - study.arrived_at).total_seconds()
        study.arrived_at = new.received_at
    study.latest_at = new.received_at if study.latest_at is None else max(study.latest_at, new.received_at)


def _now_live(session: Session, known: Instance, study: Study, new: NewInstance) -> Queued | None:
    """Let an image that an archive had brought count as sent, from now on: on worklist and in ledger, and read soon."""
    _heard_of(study, new)
    known.origin, known.received_at = new.origin, new.received_at
    known.calling_ae, known.correlation_id = new.calling_ae, new.correlation_id
    decision = session.scalars(
        select(GateDecision).where(GateDecision.instance_id == known.id, GateDecision.current.is_(True))
    ).one()
    session.execute(
        update(GateDecision)
        .where(GateDecision.instance_id == known.id)
        .values(origin=new.origin)
        .execution_options(synchronize_session=False)
    )
    session.flush()
    if not decision.accepted:
        return None
    models = active_models(session)
    reader = models.model_for(known.age_years, known.view)
    rows = session.scalars(
        select(Analysis).where(Analysis.instance_id == known.id).order_by(Analysis.id).with_for_update()
    ).all()
    waiting = next((row for row in rows if row.state == "pending"), None)
    wanted = "" if reader is None else reader.digest
    if waiting is not None:  # in the archive's queue; `retarget` has passed it over
        waiting.queue, waiting.priority, waiting.enqueued_at = queue_of(known), new.priority, new.received_at
        if reader is not None and wanted not in {row.model_digest for row in rows}:
            waiting.model_digest, waiting.preprocessing_id = reader.digest, reader.preprocessing_id
            waiting.model_name = reader.name
        return Queued(waiting.id, queue_of(known))
    if models and any(row.model_digest == wanted for row in rows):
        return None  # by the model that reads it now it is read or being read; or it is known that none reads it
    if not models:
        session.execute(update(GateDecision).where(GateDecision.id == decision.id).values(waits=True))
        return None
    first = session.scalars(
        select(Location.sha256).where(Location.instance_id == known.id).order_by(Location.id).limit(1)
    ).one()
    analysis = new_analysis(known, models, first, new.received_at, priority=new.priority)
    session.add(analysis)
    session.flush()
    refresh(session, [known.id])
    return Queued(analysis.id, queue_of(known)) if analysis.state == "pending" else None


def _note_misfiled(session: Session, location: Location, new: NewInstance) -> None:
    """Let whoever looks for the study that these bytes name find it, and in it where they are."""
    named = session.scalar(
        select(Study).where(Study.study_instance_uid == new.study.study_instance_uid).with_for_update(key_share=True)
    )
    if named is None:
        named = _new_study(new)
        session.add(named)
    else:
        _heard_of(named, new)
    try:
        session.flush()
    except IntegrityError:
        raise RecordedElsewhere(new.sop_instance_uid) from None  # the driver's own text may quote the row
    session.add(MisfiledLocation(location_id=location.id, study_id=named.id))


def _location(instance_id: int, new: NewInstance) -> Location:
    return Location(
        instance_id=instance_id,
        uri=new.uri,
        sha256=new.sha256,
        size=new.size,
        received_at=new.received_at,
        calling_ae=new.calling_ae,
        study_instance_uid=new.study.study_instance_uid,
    )


def _new_study(new: NewInstance) -> Study:
    identity = new.study
    return Study(
        study_instance_uid=identity.study_instance_uid,
        patient_id=identity.patient_id,
        patient_name=identity.patient_name,
        patient_birth_date=identity.patient_birth_date,
        patient_sex=identity.patient_sex,
        accession_number=identity.accession_number,
        study_date=identity.study_date,
        study_time=identity.study_time,
        study_description=identity.study_description,
        arrived_at=new.received_at,
        latest_at=new.received_at if new.origin == "live" else None,
        priority=new.triage.priority,
        score=new.triage.score,
        reading_key=new.triage.reading_key,
    )
