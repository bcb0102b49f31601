"""What the pages show: a page of the worklist with its images, one study whole, and what its pictures are drawn of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select

from db.analysis.current_result import findings_of
from db.engine.session import Session
from db.intake.misfiled_instances import MisfiledInstance
from db.model_registry.scope import ActiveModels
from db.records import Decision, FindingRecord, StudyIdentity, WorklistItem
from db.tables.analyses import Analysis, LogitMaps
from db.tables.delivery import Delivery, MadeObject
from db.tables.studies import Instance, Location, Study
from db.views.loaded_studies import LoadedStudies, load_studies
from db.views.worklist import Wanted, in_reading_order, item_of, newest_first, priorities


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
    """Part of the worklist, how many studies are wanted, and how many of each priority there are in all of it."""

    rows: tuple[WorklistRow, ...]
    total: int
    priorities: dict[str, int]
    models: ActiveModels


@dataclass(frozen=True)
class EarlierPage:
    """Some of the studies that are no longer on the open list; ``more``: where the next ones begin, none at the end."""

    rows: tuple[WorklistRow, ...]
    models: ActiveModels
    more: tuple[datetime, int] | None


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
    """A study with everything known of it; ``previous`` and ``next`` are its neighbours on its list."""

    row: WorklistRow
    objects: tuple[StudyObject, ...]
    maps: dict[int, bytes]  # of the analyses shown, by their id
    previous: str | None
    next: str | None
    is_open: bool  # on the open list


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one analysis as they were stored, and the affine (6 numbers, row by row) of its tensor."""

    data: bytes
    affine: tuple[float, ...]
    model_digest: str
    preprocessing_id: str
    labels: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)


def worklist_page(session: Session, offset: int, limit: int, wanted: Wanted) -> WorklistPage:
    """Return ``limit`` studies from the ``offset``-th on, in reading order."""
    rows, models = _rows(session, in_reading_order(session, limit, offset, wanted))
    counts = priorities(session, replace(wanted, priority=""))
    total = counts.get(wanted.priority, 0) if wanted.priority else sum(counts.values())
    return WorklistPage(rows, total, counts, models)


def earlier_page(session: Session, limit: int, wanted: Wanted, before: tuple[datetime, int] | None) -> EarlierPage:
    """Return ``limit`` studies, of which something was heard last first, and where the next ones begin."""
    studies = newest_first(session, limit + 1, wanted, before)
    rows, models = _rows(session, studies[:limit])
    last = studies[limit - 1] if len(studies) > limit else None
    return EarlierPage(rows, models, None if last is None or last.latest_at is None else (last.latest_at, last.id))


def study_page(session: Session, study_instance_uid: str, open_since: datetime) -> StudyPage | None:
    """Return one study, or None if there is none with this UID; ``open_since``: what was heard of since is open."""
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
    if study is None:
        return None
    (row,), _models = _rows(session, [study])
    shown = [image.analysis.id for image in row.images if image.analysis is not None]
    maps = session.execute(select(LogitMaps.analysis_id, LogitMaps.data).where(LogitMaps.analysis_id.in_(shown)))
    return StudyPage(
        row=row,
        objects=_objects(session, study.id),
        maps={int(analysis_id): bytes(data) for analysis_id, data in maps},
        previous=_neighbour(session, study, open_since, earlier=True),
        next=_neighbour(session, study, open_since, earlier=False),
        is_open=study.latest_at is not None and study.latest_at > open_since,
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
    return StoredMaps(
        maps.data,
        tuple(maps.affine),
        analysis.model_digest,
        analysis.preprocessing_id,
        tuple(finding.label for finding in findings_of(session, [analysis.id]).get(analysis.id, ())),
        dict(analysis.record or {}),
    )


def _rows(session: Session, studies: Sequence[Study]) -> tuple[tuple[WorklistRow, ...], ActiveModels]:
    loaded = load_studies(session, studies)
    ids = [instance.id for instances in loaded.instances.values() for instance in instances]
    locations: dict[int, list[Location]] = defaultdict(list)  # the first is the one that is read
    for row in session.scalars(select(Location).where(Location.instance_id.in_(ids)).order_by(Location.id)):
        locations[row.instance_id].append(row)
    rows = (
        WorklistRow(
            item_of(study, loaded),
            _identity(study),
            tuple(_image(each, loaded, locations[each.id]) for each in loaded.instances.get(study.id, ())),
            loaded.misfiled.get(study.id, ()),
        )
        for study in studies
    )
    return tuple(rows), loaded.models


def _image(instance: Instance, loaded: LoadedStudies, locations: Sequence[Location]) -> StudyImage:
    location = next(iter(locations), None)
    decisions = loaded.decisions.get(instance.id, [])
    analysis = loaded.analyses.get(instance.id)
    return StudyImage(
        sop_instance_uid=instance.sop_instance_uid or "",
        received_at=instance.received_at,
        calling_ae=instance.calling_ae,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        age_years=instance.age_years,
        view=instance.view,
        flags=tuple(instance.flags),
        source_sha256=location.sha256 if location else "",
        size=location.size if location else 0,
        decision=next(iter(decisions[-1:]), None),
        analysis=None if analysis is None else _analysis(analysis, loaded.findings[analysis.id]),
        others=tuple(
            OtherBytes(row.received_at, row.calling_ae, row.study_instance_uid, row.sha256, row.size)
            for row in locations[1:]
        ),
        earlier=tuple(decisions[:-1]),
    )


def _objects(session: Session, study_id: int) -> tuple[StudyObject, ...]:
    made = session.scalars(select(MadeObject).where(MadeObject.study_id == study_id).order_by(MadeObject.id)).all()
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


def _neighbour(session: Session, study: Study, open_since: datetime, *, earlier: bool) -> str | None:
    """The study just before, or just after, on the list that this one is on: the open one, or the earlier ones."""
    if study.latest_at is None:
        return None
    query = select(Study.id).limit(1)
    if study.latest_at > open_since:
        here = study.reading_key
        same = and_(Study.reading_key == here, Study.id < study.id if earlier else Study.id > study.id)
        beside = or_(Study.reading_key > here if earlier else Study.reading_key < here, same)
        query = query.where(Study.latest_at > open_since, beside)
        query = query.order_by(
            *((Study.reading_key.asc(), Study.id.desc()) if earlier else (Study.reading_key.desc(), Study.id.asc()))
        )
    else:
        # two comparisons, of which the first is the range of an index: SQLite makes none of a pair's
        here_at = study.latest_at
        if earlier:
            query = query.where(Study.latest_at >= here_at, or_(Study.latest_at > here_at, Study.id > study.id))
            query = query.where(Study.latest_at <= open_since)
        else:
            query = query.where(Study.latest_at <= here_at, or_(Study.latest_at < here_at, Study.id < study.id))
        query = query.order_by(
            *((Study.latest_at.asc(), Study.id.asc()) if earlier else (Study.latest_at.desc(), Study.id.desc()))
        )
    number = session.scalar(query)  # by the index alone; the row is fetched of the one that is found
    return None if number is None else session.scalar(select(Study.study_instance_uid).where(Study.id == number))


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
