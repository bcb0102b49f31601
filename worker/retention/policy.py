"""Retention: studies are removed by age, or oldest first while free space is short."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from db.engine.session import Database
from db.intake.rejected_transfers import prune_rejections
from db.retention import erasure
from worker.config.settings import Settings
from worker.retention.erasure import finish_removals
from worker.retention.orphan_files import set_aside
from worker.runtime.clock import Clock
from worker.runtime.timeouts import LEFTOVER_AGE, MOST_REFUSALS, RETENTION_BATCH
from worker.storage.store import FolderStore, Store, StoreUnavailable

_log = structlog.get_logger(__name__)
_GIGABYTE = 1_000_000_000


def retain(settings: Settings, database: Database, store: FolderStore, clock: Clock) -> int:
    """Remove what dead processes left half-written, and apply the retention rules once. Returns how many studies."""
    _finish(database, store, clock)
    leftovers = store.discard_leftovers((clock() - LEFTOVER_AGE).timestamp())
    if leftovers:
        _log.info("half-written files removed", count=leftovers)
    set_aside(database, store, clock())
    rules = settings.retention
    with database.write() as session:
        prune_rejections(session, before=clock() - timedelta(days=rules.refusal_days), most=MOST_REFUSALS)
    removed = 0
    if rules.days:
        before = clock() - timedelta(days=rules.days)
        removed += _remove(database, before, RETENTION_BATCH, f"older than {rules.days:g} days", clock)
        _finish(database, store, clock)
    reason = f"less than {rules.free_gigabytes:g} GB free"
    # one at a time: no more goes than must
    while store.free_bytes() < rules.free_gigabytes * _GIGABYTE and removed < RETENTION_BATCH:
        if not _remove(database, None, 1, reason, clock):
            _log.warning("space is short and nothing may be removed: all studies are unread or undelivered")
            break
        removed += 1
        if not _finish(database, store, clock):
            break  # to remove more would free nothing
    if removed:
        _log.info("studies removed", count=removed)
    return removed


def _finish(database: Database, store: Store, clock: Clock) -> bool:
    """Delete what is to be deleted; False where a file cannot be, which must hold up nothing else."""
    try:
        finish_removals(database, store, clock)
    except StoreUnavailable as error:
        _log.error("files of removed studies are still there; will be tried again", error=str(error))
        return False
    return True


def _remove(database: Database, before: datetime | None, limit: int, reason: str, clock: Clock) -> int:
    with database.read() as session:  # the search may take long, and must not hold up who writes
        ids = erasure.removable(session, before=before, limit=limit)
    with database.write() as session:
        gone = [
            erasure.erase(session, study_id, requested_by="retention", reason=reason, now=clock())
            for study_id in ids
            if erasure.is_removable(session, study_id)
        ]
    return len(gone)
