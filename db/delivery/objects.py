"""Made objects and their revisions; the one place where an object's outbox rows are written or superseded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import aliased

from db.delivery import outbox
from db.engine.file_locks import share_file
from db.engine.session import Session
from db.reasons import ReasonCode
from db.records import ClaimedDelivery, ObjectKey, ObjectRecord
from db.tables.delivery import Delivery, MadeObject, ObjectSource
from db.tables.studies import Study

_KEY = tuple(ObjectKey.__dataclass_fields__)


def newest_revision(session: Session, key: ObjectKey) -> tuple[int, str]:
    """Return the newest revision made of this object and the digest of its inputs; ``(0, "")`` if there is none."""
    row = session.execute(
        select(MadeObject.revision, MadeObject.inputs_digest)
        .where(*_is(key))
        .order_by(MadeObject.revision.desc())
        .limit(1)
    ).first()
    return (0, "") if row is None else (row.revision, row.inputs_digest)


def count_made(session: Session, study_id: int, kind: str, model_digest: str, *, alone: bool = False) -> int:
    """Return how many objects of a kind, all revisions, were made of a study by a model.

    With `alone` nobody else can add one before the transaction ends: the study's row is locked (on SQLite every writing
    transaction is alone).
    """
    if alone:
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
    counted = select(func.count()).where(
        MadeObject.study_id == study_id, MadeObject.kind == kind, MadeObject.model_digest == model_digest
    )
    return session.scalar(counted) or 0


def record(session: Session, made: ObjectRecord, now: datetime) -> None:
    """Write an object with its sources and outbox rows; of its older revisions, what still waits is superseded.

    A revision that another process has written meanwhile is refused by the database (`StatementRejected`): the whole
    transaction is undone and its work tried again, which then finds that revision.
    """
    share_file(session, made.uri)
    row = MadeObject(
        **{name: getattr(made.key, name) for name in _KEY},
        revision=made.revision,
        inputs_digest=made.inputs_digest,
        study_id=made.study_id,
        sop_instance_uid=made.sop_instance_uid,
        uri=made.uri,
        sha256=made.sha256,
        size=made.size,
        created_at=made.created_at,
    )
    session.add(row)
    session.flush()
    session.add_all(ObjectSource(object_id=row.id, analysis_id=analysis) for analysis in made.analyses)
    session.add_all(
        Delivery(object_id=row.id, destination=name, state="pending", next_attempt_at=now, created_at=now)
        for name in made.destinations
    )
    if made.revision > 1:
        older = select(MadeObject.id).where(*_is(made.key), MadeObject.revision < made.revision)
        session.execute(
            update(Delivery)
            .where(Delivery.state == "pending", Delivery.object_id.in_(older))
            .values(state="superseded", reason=_superseded_by(made.revision), reason_code=ReasonCode.SUPERSEDED)
        )


def without_superseded(session: Session, claimed: Sequence[ClaimedDelivery]) -> list[ClaimedDelivery]:
    """End what was just claimed although a newer revision exists, and return the others.

    `record` ends what waits; what was under way at that moment comes here when it is tried again.
    """
    newer = aliased(MadeObject)
    same = and_(*(getattr(newer, name) == getattr(MadeObject, name) for name in _KEY))
    found = session.execute(
        select(Delivery.id, func.max(newer.revision))
        .join(MadeObject, MadeObject.id == Delivery.object_id)
        .join(newer, and_(same, newer.revision > MadeObject.revision))
        .where(Delivery.id.in_([item.id for item in claimed]))
        .group_by(Delivery.id)
    )
    newest = {int(identity): int(revision) for identity, revision in found}
    for item in claimed:
        if item.id in newest:
            outbox.mark_superseded(session, item, _superseded_by(newest[item.id]))
    return [item for item in claimed if item.id not in newest]


def _is(key: ObjectKey) -> list[ColumnElement[bool]]:
    return [getattr(MadeObject, name) == getattr(key, name) for name in _KEY]


def _superseded_by(revision: int) -> str:
    return f"superseded by revision {revision}"
