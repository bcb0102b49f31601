"""Queueing work that is already committed. A lost message loses nothing: recovery queues it again from the database."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

import structlog
from celery import Celery
from kombu.exceptions import KombuError

from db.records import BATCH, LIVE, Queue, Queued
from worker.queue.celery_app import ANALYSE

_log = structlog.get_logger(__name__)
_STOP = Queued(-1, LIVE)


def enqueue(app: Celery, analysis_ids: Sequence[int], queue_name: Queue) -> bool:
    """Publish one task an analysis id, to the queue that their rows name. False if the broker could not be reached."""
    try:
        with app.producer_pool.acquire(block=True, timeout=5) as producer:
            for analysis_id in analysis_ids:
                app.send_task(ANALYSE, args=[[analysis_id]], queue=queue_name, producer=producer, retry=False)
    except (KombuError, OSError) as error:
        _log.warning("broker unreachable; will be re-queued", error=type(error).__name__, count=len(analysis_ids))
        return False
    return True


class Dispatcher:
    """Queues from a thread of its own, so that an unreachable broker never delays the response to a C-STORE."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: queue.SimpleQueue[Queued] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dispatch", daemon=True)
        self._thread.start()

    def enqueue(self, analysis: Queued) -> None:
        """Queue one analysis where its row says, soon; returns at once."""
        self._waiting.put(analysis)

    def close(self) -> None:
        """Queue what is waiting, then stop."""
        self._waiting.put(_STOP)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            analyses = [self._waiting.get()]
            while not self._waiting.empty():
                analyses.append(self._waiting.get())
            try:
                for name in (LIVE, BATCH):
                    if ids := [each.id for each in analyses if each.queue == name and each is not _STOP]:
                        enqueue(self._app, ids, name)
            except Exception as error:  # noqa: BLE001 - the thread's edge: were it to end, nothing would be queued any more
                _log.error("queueing failed; will be re-queued", error=type(error).__name__, count=len(analyses))
            if _STOP in analyses:
                return
