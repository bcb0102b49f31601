"""The sweep rings again for whatever the database says is unfinished: lost rings and dead processes are harmless."""

from __future__ import annotations

import threading
import time

import structlog
from celery import Celery

from db.analysis import lifecycle
from db.analysis.planning import create_missing
from db.delivery import outbox
from db.engine.session import Database, DatabaseUnavailable
from worker.config.settings import Settings
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.queue.dispatch import ring
from worker.retention.policy import retain
from worker.runtime.clock import now
from worker.runtime.lease_owner import is_dead
from worker.runtime.timeouts import RETENTION_EVERY, RING_AGAIN_BUSY, RING_AGAIN_IDLE, SWEEP_BATCH, SWEEP_EVERY
from worker.storage.store import FolderStore, StoreUnavailable

_log = structlog.get_logger(__name__)


def sweep_once(settings: Settings, database: Database, app: Celery) -> int:
    """Free what dead processes held, create what is missing, ring for what is pending. Returns how many rings."""
    with database.write() as session:
        freed = lifecycle.release_dead(session, is_dead, now())
        freed_deliveries = outbox.release_dead(session, is_dead, now())
        created = create_missing(session, now(), SWEEP_BATCH)
    if freed or freed_deliveries or created:
        _log.info("swept", analyses_freed=freed, deliveries_freed=freed_deliveries, analyses_created=created)
    try:
        waiting = sum(queue_lengths(settings).values())
    except BrokerUnavailable as error:
        _log.warning("no doorbell", error=str(error))
        return 0
    with database.write() as session:
        ids = lifecycle.ring_again(session, now(), RING_AGAIN_BUSY if waiting else RING_AGAIN_IDLE, SWEEP_BATCH)
    if ids:
        ring(app, ids)
        _log.info("rang again", count=len(ids))
    return len(ids)


def sweep_forever(
    settings: Settings, database: Database, store: FolderStore, app: Celery, stop: threading.Event
) -> None:
    """Sweep every few seconds until ``stop`` is set; a database or store that is away is waited for."""
    retained_at = -RETENTION_EVERY
    while not stop.is_set():
        try:
            sweep_once(settings, database, app)
            if time.monotonic() - retained_at >= RETENTION_EVERY:
                retain(settings, database, store)
                retained_at = time.monotonic()
        except (DatabaseUnavailable, StoreUnavailable, OSError) as error:
            _log.error("sweep failed", error=str(error))
        stop.wait(SWEEP_EVERY)
