"""Recovery: expired leases are released and unfinished work is queued again; the database says what that is."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import structlog
from celery import Celery

from db.analysis import lifecycle
from db.analysis.planning import create_missing, retarget
from db.delivery import outbox
from db.engine import processes
from db.engine.leases import database_time
from db.engine.session import Database, DatabaseUnavailable, StatementRejected
from db.engine.tallies import add_up
from db.model_registry.activation import routing_is_applied
from db.records import BATCH, LIVE
from worker.config.settings import Settings
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.queue.dispatch import enqueue
from worker.retention.policy import retain
from worker.runtime.registered_process import RegisteredProcess
from worker.runtime.timeouts import (
    DESTINATION_KEPT,
    PROCESS_KEPT,
    RECOVERY_BATCH,
    RECOVERY_EVERY,
    REQUEUE_BUSY,
    REQUEUE_IDLE,
    RETENTION_EVERY,
)
from worker.storage.store import FolderStore, StoreUnavailable
from worker.worklist.priority import ranking

_log = structlog.get_logger(__name__)


def recover_once(settings: Settings, database: Database, app: Celery, process: RegisteredProcess) -> int:
    """Release leases of dead processes, create missing analyses, queue pending ones. Returns how many were queued.

    Each is queued where its row says, the live ones first; a long batch queue delays no live image. ``process`` is this
    process's row; it judges which others are dead.
    """
    with database.write() as session:
        moment = database_time(session, process.clock)
        freed = lifecycle.release_dead(session, process.judge(session, moment), moment)
        freed_deliveries = outbox.release_dead(session, process.judge(session, moment), moment)
        created = create_missing(session, moment, RECOVERY_BATCH)
        applied = routing_is_applied(session)
    if freed or freed_deliveries or created:
        _log.info("leases recovered", analyses=freed, deliveries=freed_deliveries, analyses_created=created)
    queued = _requeue(settings, database, app, process)
    if not applied:  # an activation that goes on meets nothing left to change; one whose process died is ended here
        retarget(database, moment, ranking(settings))
    return queued


def _requeue(settings: Settings, database: Database, app: Celery, process: RegisteredProcess) -> int:
    """Queue again what waits and no message names any more. Returns how many; 0 where the broker is away."""
    try:
        lengths = queue_lengths(settings)
    except BrokerUnavailable as error:
        _log.warning("broker unreachable; will be re-queued", error=str(error))
        return 0
    queued = 0
    for name in (LIVE, BATCH):
        older_than = REQUEUE_BUSY if lengths[name] else REQUEUE_IDLE
        with database.write() as session:
            moment = database_time(session, process.clock)
            ids = lifecycle.requeue_pending(session, moment, older_than, RECOVERY_BATCH - queued, name)
        if ids:
            enqueue(app, ids, name)
            _log.info("queued again", queue=name, count=len(ids))
        queued += len(ids)
    return queued


def _tidy(settings: Settings, database: Database, process: RegisteredProcess) -> None:
    """Forget processes that ended long ago, and give up what waits for destinations that are no longer configured."""
    configured = {destination.name for destination in settings.destinations}
    with database.write() as session:
        moment = database_time(session, process.clock)
        processes.prune(session, moment - PROCESS_KEPT)
        days = DESTINATION_KEPT / timedelta(days=1)
        ended = outbox.give_up_removed(session, configured, moment - DESTINATION_KEPT, days)
    for name, number in ended.items():
        _log.warning("deliveries to a destination that is no longer configured were given up", name=name, count=number)


def recover_forever(
    settings: Settings,
    database: Database,
    store: FolderStore,
    app: Celery,
    stop: threading.Event,
    process: RegisteredProcess,
) -> None:
    """Recover every few seconds until ``stop`` is set; a database or store that is away is waited for."""
    retained_at = -RETENTION_EVERY
    while not stop.is_set():
        try:
            recover_once(settings, database, app, process)
            add_up(database)
            if time.monotonic() - retained_at >= RETENTION_EVERY:
                retained_at = time.monotonic()
                _tidy(settings, database, process)
                retain(settings, database, store, process.clock)
        except (DatabaseUnavailable, StatementRejected, StoreUnavailable, OSError) as error:
            _log.error("recovery failed", error=str(error))
        stop.wait(RECOVERY_EVERY)
