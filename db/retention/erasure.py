"""Erasure: a study's rows go in one transaction that also notes the files to delete, so that no crash keeps one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select

from db.engine.session import Session
from db.reasons import ReasonCode
from db.tables.analyses import Analysis, Finding, LogitMaps
from db.tables.audit import Erasure
from db.tables.delivery import Delivery, MadeObject, ObjectSource
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Location, MisfiledLocation, Study

_SETTLED = ("sent", "committed", "superseded")  # deliveries that nobody waits for
# reasons of failed ones that no longer keep their study
_NOTHING_LEFT = (ReasonCode.STORED_FILE_LOST, ReasonCode.DESTINATION_REMOVED)


@dataclass(frozen=True)
class ErasureRecord:
    """One study's removal: how much went, and which files are still to be deleted."""

    id: int
    instances: int
    objects: int
    uris: tuple[str, ...]


def studies_of(session: Session, *, study_instance_uid: str | None = None, patient_id: str | None = None) -> list[int]:
    """Return the ids of the studies with this UID, or of this patient, locked."""
    wanted = Study.study_instance_uid == study_instance_uid if study_instance_uid else Study.patient_id == patient_id
    return list(session.scalars(select(Study.id).where(wanted).order_by(Study.id).with_for_update()))


def removable(session: Session, *, before: datetime | None, limit: int) -> list[int]:
    """Return studies, oldest first, of which everything is read and delivered; ``before``: last image older than this.

    Unread: an analysis pending or running, or an accepted image without one. Undelivered: anything neither sent nor
    superseded, failures included, since the only copy of the object is here; unless the store has
    lost it, or its destination was removed from the configuration.
    """
    query = select(Study.id).where(*_nothing_owed())
    if before is not None:
        newest = select(func.max(Instance.received_at)).where(Instance.study_id == Study.id).correlate(Study)
        # the first image is no younger than the last; said for the index. A study without images has only misfiled ones
        query = query.where(
            Study.arrived_at < before, func.coalesce(newest.scalar_subquery(), Study.arrived_at) < before
        )
    return list(session.scalars(query.order_by(Study.arrived_at, Study.id).limit(limit)))


def is_removable(session: Session, study_id: int) -> bool:
    """Whether the study is still there with nothing owed to anybody; its row is locked against a late image."""
    query = select(Study.id).where(Study.id == study_id, *_nothing_owed()).with_for_update()
    return session.scalar(query) is not None


def _nothing_owed() -> tuple[ColumnElement[bool], ...]:
    # one EXISTS in another, never a join: a planner without statistics starts a join at all that is pending anywhere,
    # for every study
    unread = exists().where(Analysis.instance_id == Instance.id, Analysis.state.in_(("pending", "running")))
    unanalysed = exists().where(GateDecision.instance_id == Instance.id, GateDecision.waits.is_(True))
    given_up = and_(Delivery.state == "failed", Delivery.reason_code.in_(_NOTHING_LEFT))
    unsent = exists().where(Delivery.object_id == MadeObject.id, Delivery.state.not_in(_SETTLED), ~given_up)
    return (
        ~exists().where(Instance.study_id == Study.id, or_(unread, unanalysed)),
        ~exists().where(MadeObject.study_id == Study.id, unsent),
    )


def erase(session: Session, study_id: int, *, requested_by: str, reason: str, now: datetime) -> ErasureRecord:
    """Delete every row of a study and note its files; delete these after the commit, then call `finish`."""
    # before anything of it: a worker that completes an image of it locks it first, too
    study = session.get_one(Study, study_id, with_for_update=True)
    instances = select(Instance.id).where(Instance.study_id == study_id)
    analyses = select(Analysis.id).where(Analysis.instance_id.in_(instances))
    objects = select(MadeObject.id).where(MadeObject.study_id == study_id)
    # bytes that name this study go with it, though another one's image keeps them
    misfiled = list(session.scalars(select(MisfiledLocation.location_id).where(MisfiledLocation.study_id == study_id)))
    kept = or_(Location.instance_id.in_(instances), Location.id.in_(misfiled))
    uris = list(session.scalars(select(Location.uri).where(kept)))
    uris += session.scalars(select(MadeObject.uri).where(MadeObject.study_id == study_id))
    record = Erasure(
        requested_at=now,
        requested_by=requested_by,
        reason=reason,
        subject=hashlib.sha256(study.study_instance_uid.encode()).hexdigest(),
        instances=int(session.scalar(select(func.count()).select_from(instances.subquery())) or 0),
        objects=int(session.scalar(select(func.count()).select_from(objects.subquery())) or 0),
        uris=uris,
    )
    session.add(record)
    for statement in (
        delete(Delivery).where(Delivery.object_id.in_(objects)),
        delete(ObjectSource).where(ObjectSource.object_id.in_(objects)),
        delete(MadeObject).where(MadeObject.study_id == study_id),
        delete(Finding).where(Finding.analysis_id.in_(analyses)),
        delete(LogitMaps).where(LogitMaps.analysis_id.in_(analyses)),
        delete(Analysis).where(Analysis.instance_id.in_(instances)),
        delete(GateDecision).where(GateDecision.instance_id.in_(instances)),
        delete(MisfiledLocation).where(MisfiledLocation.location_id.in_(select(Location.id).where(kept))),
        delete(Location).where(kept),
        delete(Instance).where(Instance.study_id == study_id),
        delete(Study).where(Study.id == study_id),
    ):
        session.execute(statement, execution_options={"synchronize_session": False})
    session.flush()
    return _record(record)


def unfinished(session: Session) -> list[ErasureRecord]:
    """Return the removals whose files are not known to be gone."""
    rows = session.scalars(select(Erasure).where(Erasure.finished_at.is_(None)).order_by(Erasure.id))
    return [_record(row) for row in rows]


def finish(session: Session, erasure_id: int, now: datetime) -> None:
    """Note that the files of a removal are gone."""
    row = session.get_one(Erasure, erasure_id)
    row.finished_at, row.uris = now, []


def referenced(session: Session, uri: str) -> bool:
    """Whether a row still needs the file at ``uri`` (the same bytes may have come again)."""
    either = or_(exists().where(Location.uri == uri), exists().where(MadeObject.uri == uri))
    return bool(session.scalar(select(and_(either))))


def any_file(session: Session) -> bool:
    """Whether any row names a file of the store."""
    return any(session.scalar(select(table.id).limit(1)) is not None for table in (Location, MadeObject))


def referenced_of(session: Session, uris: Sequence[str]) -> set[str]:
    """Return those of the files that a row needs."""
    found = set(session.scalars(select(Location.uri).where(Location.uri.in_(uris))))
    return found | set(session.scalars(select(MadeObject.uri).where(MadeObject.uri.in_(uris))))


def _record(row: Erasure) -> ErasureRecord:
    return ErasureRecord(row.id, row.instances, row.objects, tuple(row.uris))
