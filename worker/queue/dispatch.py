"""Queueing work that is already committed. A lost message loses nothing: recovery queues it again from the database."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

import structlog
from celery import Celery
from kombu.exceptions import KombuError

from worker.queue.broker import LIVE
from worker.queue.celery_app import ANALYSE

_log = structlog.get_logger(__name__)
_STOP = -1


def enqueue(app: Celery, analysis_ids: Sequence[int], queue_name: str = LIVE) -> bool:
    """Publish one task a live analysis id. False if the broker could not be reached."""
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
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dispatch", daemon=True)
        self._thread.start()

    def enqueue(self, analysis_id: int) -> None:
        self._waiting.put(analysis_id)

    def close(self) -> None:
        """Queue what is waiting, then stop."""
        self._waiting.put(_STOP)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            ids = [self._waiting.get()]
            while not self._waiting.empty():
                ids.append(self._waiting.get())
            try:
                enqueue(self._app, [number for number in ids if number != _STOP])
            except Exception as error:  # noqa: BLE001 - the thread's edge: were it to end, nothing would be queued any more
                _log.error("queueing failed; will be re-queued", error=type(error).__name__, count=len(ids))
            if _STOP in ids:
                return
