"""Removing studies here (never in the PACS): on a person's request, or by age and free space."""

from __future__ import annotations

import getpass
import os
from datetime import datetime, timedelta

import structlog

from db import erasure
from db.erasure import ErasureRecord
from db.rejections import prune_rejections
from db.session import Database
from worker.settings import Settings
from worker.store import FolderStore, Store
from worker.timing import LEFTOVER_AGE, MOST_REFUSALS, RETENTION_BATCH, now
from worker.unreferenced import set_aside

_log = structlog.get_logger(__name__)
_GIGABYTE = 1_000_000_000


def forget(
    database: Database, store: Store, *, study_instance_uid: str | None, patient_id: str | None, reason: str
) -> list[ErasureRecord]:
    """Remove files, rows and objects of a study or of all studies of a patient, and note it in the audit.

    Raises
    ------
    worker.store.StoreUnavailable
        If a file could not be deleted; its rows are gone, and the scheduler goes on trying.
    """
    with database.write() as session:
        ids = erasure.studies_of(session, study_instance_uid=study_instance_uid, patient_id=patient_id)
        records = [erasure.erase(session, study_id, requested_by=_who(), reason=reason, now=now()) for study_id in ids]
    finish_removals(database, store)
    return records


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id need not have a name (KeyError until Python 3.12)
        return f"uid {os.getuid()}"


def finish_removals(database: Database, store: Store) -> int:
    """Delete the files of removals whose rows are gone, those of a process that died half-way included."""
    with database.read() as session:
        open_records = erasure.unfinished(session)
    for record in open_records:
        for uri in record.uris:
            with database.write() as session:  # a film that comes again meanwhile is recorded before, or stored after
                erasure.hold_arrivals(session)
                if not erasure.referenced(session, uri):
                    store.discard(uri)
        with database.write() as session:
            erasure.finish(session, record.id, now())
    return len(open_records)


def retain(settings: Settings, database: Database, store: FolderStore) -> int:
    """Remove what dead processes left half-written, and apply the retention rules once. Returns how many studies."""
    finish_removals(database, store)
    leftovers = store.discard_leftovers((now() - LEFTOVER_AGE).timestamp())
    if leftovers:
        _log.info("half-written files removed", count=leftovers)
    set_aside(database, store, now())
    rules = settings.retention
    with database.write() as session:
        prune_rejections(session, before=now() - timedelta(days=rules.refusal_days), most=MOST_REFUSALS)
    removed = 0
    if rules.days:
        removed += _remove(
            database, now() - timedelta(days=rules.days), RETENTION_BATCH, f"older than {rules.days:g} days"
        )
        finish_removals(database, store)
    reason = f"less than {rules.free_gigabytes:g} GB free"
    # one at a time: no more goes than must
    while store.free_bytes() < rules.free_gigabytes * _GIGABYTE and removed < RETENTION_BATCH:
        if not _remove_oldest(database, store, reason):
            _log.warning("space is short and nothing may be removed: all studies are unread or undelivered")
            break
        removed += 1
    if removed:
        _log.info("studies removed", count=removed)
    return removed


def _remove_oldest(database: Database, store: Store, reason: str) -> int:
    gone = _remove(database, None, 1, reason)
    finish_removals(database, store)
    return gone


def _remove(database: Database, before: datetime | None, limit: int, reason: str) -> int:
    with database.read() as session:  # the search may take long, and must not hold up who writes
        ids = erasure.removable(session, before=before, limit=limit)
    with database.write() as session:
        gone = [
            erasure.erase(session, study_id, requested_by="retention", reason=reason, now=now())
            for study_id in ids
            if erasure.is_removable(session, study_id)
        ]
    return len(gone)
