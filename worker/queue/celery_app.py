"""Celery: tasks carry ids alone. The database holds the work, so a lost or repeated task does no harm."""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from db.records import BATCH, LIVE
from worker.config.settings import Settings
from worker.queue.broker import broker_url
from worker.runtime.timeouts import BROKER_TIMEOUT, CHILD_START_LIMIT, analysis_time_limit

ANALYSE = "cxr_triage.analyse"


def make_app(settings: Settings) -> Celery:
    """Return a Celery application for these settings; nothing connects before it is used."""
    app = Celery("cxr-triage", broker=broker_url(settings), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=analysis_time_limit(settings.reading.engine),
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a running analysis is still finished
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_proc_alive_timeout=CHILD_START_LIMIT[settings.reading.engine],
        task_queues=[Queue(LIVE), Queue(BATCH)],
        task_default_queue=LIVE,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "queue_order_strategy": "priority",  # all live tasks first
            "socket_connect_timeout": BROKER_TIMEOUT,
            "socket_timeout": 10,
            "max_retries": 1,
        },
    )
    return app
