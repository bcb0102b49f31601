"""The Celery worker process: children that load their model after the fork and analyse one id at a time."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Sequence
from functools import cached_property, partial

import structlog
from celery.platforms import SecurityWarning
from celery.signals import worker_process_init, worker_process_shutdown

from db.analysis import lifecycle
from db.engine.session import Database, DatabaseUnavailable, StatementRejected
from db.model_registry.activation import active_models
from db.records import BATCH, LIVE
from model.bundle.bundle import BundleInvalid
from model.engine.protocol import EngineUnsuitable
from worker.analysis.celery_request import Request
from worker.analysis.codec_check import check_codecs
from worker.analysis.runner import Analyst
from worker.config.settings import Settings
from worker.model_registry.bundles import UnknownModel
from worker.queue.celery_app import ANALYSE, make_app
from worker.runtime.clock import Clock, now
from worker.runtime.cores import usable_cores
from worker.runtime.parent_death import die_with_parent
from worker.runtime.registered_process import ANALYSIS_CHILD, RegisteredProcess
from worker.storage.store import FolderStore, StoreUnavailable

_log = structlog.get_logger(__name__)


class Child:
    """What one child process holds, opened after the fork."""

    def __init__(self, settings: Settings, clock: Clock = now) -> None:
        self._settings = settings
        self._analyst: Analyst | None = None
        self.process = RegisteredProcess(lambda: self._database, ANALYSIS_CHILD, clock=clock)

    @cached_property
    def _database(self) -> Database:
        return Database(self._settings.database_url)

    def start(self) -> None:
        """Open everything, the active models included, and say how long it took and what it weighs.

        What cannot be had now is asked for again by each analysis: Celery lets a child live whose start failed.
        """
        started = time.monotonic()
        name = None
        try:
            analyst = self._open()
            with analyst.database.read() as session:
                active = active_models(session)
            name = active.name or None
            for model in active.models:
                analyst.reader(model.digest)
        except (BundleInvalid, EngineUnsuitable, UnknownModel, DatabaseUnavailable, StoreUnavailable) as error:
            _log.error("model not opened yet", error=str(error))
        _log.info(
            "worker child ready",
            model=name,
            seconds=round(time.monotonic() - started, 2),
            resident_megabytes=_resident_megabytes(),
            pid=os.getpid(),
        )

    def analyse(self, analysis_ids: Sequence[int]) -> None:
        """Analyse each; what cannot even be claimed now is left to recovery."""
        for analysis_id in analysis_ids:
            try:
                self._open().analyse(analysis_id)
            except (DatabaseUnavailable, StatementRejected, StoreUnavailable) as error:
                _log.error("not analysed; will be re-queued", analysis=analysis_id, error=str(error))

    def _open(self) -> Analyst:
        if self._analyst is None:
            store = FolderStore(self._settings.home / "store", begun=True)
            self._analyst = Analyst(self._settings, self._database, store, self.process)
        return self._analyst


def run_worker(settings: Settings, clock: Clock) -> None:
    """Run until SIGTERM or SIGINT, letting running images finish. Blocks."""
    # running as root is discouraged for pickle's sake; only JSON is accepted here
    warnings.filterwarnings("ignore", category=SecurityWarning)
    missing = check_codecs().broken
    if missing:
        _log.error("codecs missing: such images wait, or fail with this reason", codecs=list(missing))
    app = make_app(settings)
    child = Child(settings, clock)  # the parent's holds nothing; each fork opens its own

    def open_child(**_signal: object) -> None:
        die_with_parent(signal.SIGKILL)  # an orphan would keep its model in memory, and its lease
        child.process.start()
        child.start()

    def close_child(**_signal: object) -> None:
        child.process.stop()

    @app.task(name=ANALYSE, Request="worker.analysis.celery_request:Request")
    def analyse(analysis_ids: Sequence[int]) -> None:
        child.analyse(analysis_ids)

    Request.on_lost = staticmethod(partial(_note_loss, settings))
    worker_process_init.connect(open_child, weak=False)
    worker_process_shutdown.connect(close_child, weak=False)
    worker = app.Worker(
        queues=[LIVE, BATCH],
        concurrency=settings.worker.processes or usable_cores(),
        pool_cls="prefork",
        optimization="fair",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
        hostname=f"cxr-triage-{os.getpid()}@%h",
    )
    worker.start()


def _note_loss(settings: Settings, analysis_ids: Sequence[int], how: str) -> None:
    """Keep with the image how the child died that was reading it: after the last attempt that is its reason."""
    _log.error("worker child lost", analyses=list(analysis_ids), how=how)
    try:
        # opened and closed here, in the parent: a child forked later must not inherit a connection
        with Database(settings.database_url) as database, database.write() as session:
            lifecycle.note_loss(session, analysis_ids, how)
    except DatabaseUnavailable as error:
        _log.error("how it was lost is not kept", error=str(error))


def _resident_megabytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss // 1_000_000)
