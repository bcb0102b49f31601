"""Removing studies here (never in the PACS): on a person's request, or by age and free space."""

from __future__ import annotations

import getpass
import os

import structlog

from db.engine.file_locks import hold_file
from db.engine.session import Database
from db.retention import erasure
from db.retention.erasure import ErasureRecord
from worker.runtime.clock import Clock
from worker.storage.store import Store, StoredFileLost, StoreUnavailable

_log = structlog.get_logger(__name__)


def forget(
    database: Database,
    store: Store,
    clock: Clock,
    *,
    study_instance_uid: str | None,
    patient_id: str | None,
    reason: str,
) -> list[ErasureRecord]:
    """Remove files, rows and objects of a study or of all studies of a patient, and note it in the audit.

    Raises
    ------
    worker.storage.store.StoreUnavailable
        If a file could not be deleted; its rows are gone, and the scheduler goes on trying.
    """
    with database.write() as session:
        ids = erasure.studies_of(session, study_instance_uid=study_instance_uid, patient_id=patient_id)
        records = [
            erasure.erase(session, study_id, requested_by=_who(), reason=reason, now=clock()) for study_id in ids
        ]
    finish_removals(database, store, clock)
    return records


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id need not have a name (KeyError until Python 3.12)
        return f"uid {os.getuid()}"


def finish_removals(database: Database, store: Store, clock: Clock) -> int:
    """Delete the files of removals whose rows are gone, those of a process that died half-way included.

    Returns
    -------
    int
        How many removals are finished.

    Raises
    ------
    worker.storage.store.StoreUnavailable
        If a file cannot be deleted; all others are by then, and that one is tried again next time.
    """
    with database.read() as session:
        open_records = erasure.unfinished(session)
    problem: StoreUnavailable | None = None
    for record in open_records:
        try:
            for uri in record.uris:
                _delete(database, store, uri)
        except StoreUnavailable as error:
            problem = problem or error
            continue
        with database.write() as session:
            erasure.finish(session, record.id, clock())
    if problem is not None:
        raise problem
    return len(open_records)


def _delete(database: Database, store: Store, uri: str) -> None:
    with database.write() as session:  # an image received again meanwhile is recorded before, or stored after
        hold_file(session, uri)
        if not erasure.referenced(session, uri):
            try:
                store.discard(uri)
            except StoredFileLost as error:  # no address of a file of this store
                _log.error("nothing to delete", error=str(error))
