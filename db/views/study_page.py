"""What the pages show: a page of the worklist with its images, one study whole, and what its pictures are drawn of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select

from db.analysis.current_result import findings_of, model_digests, shown
from db.engine.session import Session
from db.intake.gate_decisions import history
from db.intake.misfiled_instances import MisfiledInstance, misfiled_instances_of
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from db.records import Decision, FindingRecord, StudyIdentity, WorklistItem
from db.tables.analyses import Analysis, LogitMaps
from db.tables.delivery import Delivery, MadeObject
from db.tables.studies import Instance, Location, Study
from db.views.worklist import study_item, worklist


@dataclass(frozen=True)
class ImageAnalysis:
    """The analysis of one image that is shown: of the model that reads it, else the newest."""

    id: int
    state: str
    reason: str
    attempts: int
    model_name: str
    model_digest: str
    preprocessing_id: str
    engine: str
    precision: str
    application_version: str
    ood_score: float | None
    flags: tuple[str, ...]
    outside_domain: bool
    record: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None
    findings: tuple[FindingRecord, ...]


@dataclass(frozen=True)
class OtherBytes:
    """Bytes that came later under an image's UID: kept, never read; the study is the one that they name."""

    received_at: datetime
    calling_ae: str
    study_instance_uid: str
    sha256: str
    size: int


@dataclass(frozen=True)
class StudyImage:
    """One received image; ``source_sha256`` addresses the bytes that are read, `decision` is the one that counts."""

    sop_instance_uid: str
    received_at: datetime
    calling_ae: str
    transfer_syntax_uid: str
    age_years: float | None
    view: str | None
    flags: tuple[str, ...]
    source_sha256: str
    size: int
    decision: Decision | None
    analysis: ImageAnalysis | None
    others: tuple[OtherBytes, ...] = ()
    earlier: tuple[Decision, ...] = ()  # decisions that count no more


@dataclass(frozen=True)
class WorklistRow:
    """A study; ``misfiled`` instances name it and are kept, not shown, with another one's image."""

    item: WorklistItem
    identity: StudyIdentity
    images: tuple[StudyImage, ...]
    misfiled: tuple[MisfiledInstance, ...] = ()


@dataclass(frozen=True)
class WorklistPage:
    """Part of the worklist, and how many studies there are of each priority in all of it."""

    rows: tuple[WorklistRow, ...]
    total: int
    priorities: dict[str, int]
    models: ActiveModels


@dataclass(frozen=True)
class ObjectDelivery:
    destination: str
    state: str
    reason: str
    attempts: int
    next_attempt_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True)
class StudyObject:
    kind: str
    label: str
    source_uid: str
    sop_instance_uid: str
    model_digest: str
    size: int
    created_at: datetime
    deliveries: tuple[ObjectDelivery, ...]


@dataclass(frozen=True)
class StudyPage:
    """A study with everything known of it; ``previous`` and ``next`` are its neighbours in reading order."""

    row: WorklistRow
    objects: tuple[StudyObject, ...]
    maps: dict[int, bytes]  # of the analyses shown, by their id
    previous: str | None
    next: str | None


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one analysis as they were stored, and the affine (6 numbers, row by row) of its tensor."""

    data: bytes
    affine: tuple[float, ...]
    model_digest: str
    preprocessing_id: str


def worklist_page(session: Session, offset: int, limit: int) -> WorklistPage:
    """Return ``limit`` studies from the ``offset``-th on, in reading order."""
    items = worklist(session, limit, offset)
    counts = session.execute(select(Study.priority, func.count()).group_by(Study.priority)).all()
    priorities = {priority: int(number) for priority, number in counts}
    return WorklistPage(_rows(session, items), sum(priorities.values()), priorities, active_models(session))


def study_page(session: Session, study_instance_uid: str) -> StudyPage | None:
    """Return one study, or None if there is none with this UID."""
    item = study_item(session, study_instance_uid)
    if item is None:
        return None
    (row,) = _rows(session, [item])
    shown = [image.analysis.id for image in row.images if image.analysis is not None]
    maps = session.execute(select(LogitMaps.analysis_id, LogitMaps.data).where(LogitMaps.analysis_id.in_(shown)))
    return StudyPage(
        row=row,
        objects=_objects(session, study_instance_uid),
        maps={int(analysis_id): bytes(data) for analysis_id, data in maps},
        previous=_neighbour(session, study_instance_uid, earlier=True),
        next=_neighbour(session, study_instance_uid, earlier=False),
    )


def source_uri(session: Session, sha256: str) -> str | None:
    """Return where the received bytes with this digest lie; None once they were removed."""
    return session.scalar(select(Location.uri).where(Location.sha256 == sha256).order_by(Location.id).limit(1))


def stored_maps(session: Session, analysis_id: int, source_sha256: str) -> StoredMaps | None:
    """Return the maps of an analysis of the image with this digest; None if there are none."""
    row = session.execute(
        select(LogitMaps, Analysis)
        .join(Analysis, Analysis.id == LogitMaps.analysis_id)
        .join(Location, Location.instance_id == Analysis.instance_id)
        .where(LogitMaps.analysis_id == analysis_id, Location.sha256 == source_sha256)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    maps, analysis = row
    return StoredMaps(maps.data, tuple(maps.affine), analysis.model_digest, analysis.preprocessing_id)


def _rows(session: Session, items: Sequence[WorklistItem]) -> tuple[WorklistRow, ...]:
    uids = [item.study_instance_uid for item in items]
    studies = {
        study.study_instance_uid: study
        for study in session.scalars(select(Study).where(Study.study_instance_uid.in_(uids)))
    }
    ids = [study.id for study in studies.values()]
    images, misfiled = _images(session, ids), misfiled_instances_of(session, ids)
    return tuple(
        WorklistRow(item, _identity(study), tuple(images[study.id]), misfiled.get(study.id, ()))
        for item in items
        if (study := studies.get(item.study_instance_uid)) is not None
    )


def _images(session: Session, study_ids: Sequence[int]) -> dict[int, list[StudyImage]]:
    instances = session.scalars(select(Instance).where(Instance.study_id.in_(study_ids)).order_by(Instance.id)).all()
    ids = [instance.id for instance in instances]
    decisions = history(session, ids)
    locations: dict[int, list[Location]] = defaultdict(list)  # the first is the one that is read
    for row in session.scalars(select(Location).where(Location.instance_id.in_(ids)).order_by(Location.id)):
        locations[row.instance_id].append(row)
    analyses = _shown_analyses(session, instances)
    images: dict[int, list[StudyImage]] = defaultdict(list)
    for instance in instances:
        location = next(iter(locations[instance.id]), None)
        images[instance.study_id or 0].append(
            StudyImage(
                sop_instance_uid=instance.sop_instance_uid or "",
                received_at=instance.received_at,
                calling_ae=instance.calling_ae,
                transfer_syntax_uid=instance.transfer_syntax_uid,
                age_years=instance.age_years,
                view=instance.view,
                flags=tuple(instance.flags),
                source_sha256=location.sha256 if location else "",
                size=location.size if location else 0,
                decision=next(iter(decisions.get(instance.id, [])[-1:]), None),
                analysis=analyses.get(instance.id),
                others=tuple(
                    OtherBytes(row.received_at, row.calling_ae, row.study_instance_uid, row.sha256, row.size)
                    for row in locations[instance.id][1:]
                ),
                earlier=tuple(decisions.get(instance.id, [])[:-1]),
            )
        )
    return images


def _shown_analyses(session: Session, instances: Sequence[Instance]) -> dict[int, ImageAnalysis]:
    ids = [each.id for each in instances]
    rows = session.scalars(select(Analysis).where(Analysis.instance_id.in_(ids)).order_by(Analysis.id))
    latest = shown(rows, model_digests(instances, active_models(session)))
    findings = findings_of(session, [analysis.id for analysis in latest.values()])
    return {instance: _analysis(row, findings[row.id]) for instance, row in latest.items()}


def _objects(session: Session, study_instance_uid: str) -> tuple[StudyObject, ...]:
    made = session.scalars(
        select(MadeObject)
        .join(Study, Study.id == MadeObject.study_id)
        .where(Study.study_instance_uid == study_instance_uid)
        .order_by(MadeObject.id)
    ).all()
    deliveries: dict[int, list[ObjectDelivery]] = defaultdict(list)
    for row in session.scalars(
        select(Delivery).where(Delivery.object_id.in_([each.id for each in made])).order_by(Delivery.id)
    ):
        deliveries[row.object_id].append(
            ObjectDelivery(row.destination, row.state, row.reason, row.attempts, row.next_attempt_at, row.sent_at)
        )
    return tuple(
        StudyObject(
            kind=row.kind,
            label=row.label,
            source_uid=row.subject_uid,
            sop_instance_uid=row.sop_instance_uid,
            model_digest=row.model_digest,
            size=row.size,
            created_at=row.created_at,
            deliveries=tuple(deliveries[row.id]),
        )
        for row in made
    )


def _neighbour(session: Session, study_instance_uid: str, *, earlier: bool) -> str | None:
    """The study read just before, or just after, in the order of `db.views.worklist.worklist`."""
    here = session.execute(
        select(Study.reading_key, Study.id).where(Study.study_instance_uid == study_instance_uid)
    ).one()
    key, identity = here
    if earlier:
        beside = or_(Study.reading_key > key, and_(Study.reading_key == key, Study.id < identity))
        order = (Study.reading_key.asc(), Study.id.desc())
    else:
        beside = or_(Study.reading_key < key, and_(Study.reading_key == key, Study.id > identity))
        order = (Study.reading_key.desc(), Study.id.asc())
    return session.scalar(select(Study.study_instance_uid).where(beside).order_by(*order).limit(1))


def _identity(study: Study) -> StudyIdentity:
    return StudyIdentity(
        study_instance_uid=study.study_instance_uid,
        patient_id=study.patient_id,
        patient_name=study.patient_name,
        patient_birth_date=study.patient_birth_date,
        patient_sex=study.patient_sex,
        accession_number=study.accession_number,
        study_date=study.study_date,
        study_time=study.study_time,
        study_description=study.study_description,
    )


def _analysis(row: Analysis, findings: Sequence[FindingRecord]) -> ImageAnalysis:
    return ImageAnalysis(
        id=row.id,
        state=row.state,
        reason=row.reason,
        attempts=row.attempts,
        model_name=row.model_name,
        model_digest=row.model_digest,
        preprocessing_id=row.preprocessing_id,
        engine=row.engine,
        precision=row.precision,
        application_version=row.application_version,
        ood_score=row.ood_score,
        flags=tuple(row.flags),
        outside_domain=row.outside_domain,
        record=dict(row.record),
        created_at=row.created_at,
        finished_at=row.finished_at,
        findings=tuple(findings),
    )
