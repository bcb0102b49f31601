"""The process `schedule`: recovery of unfinished work, retention, and the watched folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from celery import Celery

from worker.installation import Site
from worker.intake.folder.watcher import Importer, import_folder
from worker.intake.intake import Intake
from worker.queue.celery_app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runtime.registered_process import RegisteredProcess
from worker.runtime.signals import stop_event
from worker.scheduling.recovery import recover_forever

_log = structlog.get_logger(__name__)


def run_scheduler(site: Site) -> None:
    """Run recovery, retention and imports until a signal asks this process to stop."""
    stop = stop_event()
    database, store, app = site.database, site.store, make_app(site.settings)
    folder = import_folder(site.settings)
    _log.info("ready")
    with (
        RegisteredProcess(lambda: database, "schedule", clock=site.clock) as process,
        _importing(site, folder, app, stop),
    ):
        recover_forever(site.settings, database, store, app, stop, process)


@contextmanager
def _importing(site: Site, folder: Path | None, app: Celery, stop: threading.Event) -> Iterator[None]:
    """Import from a folder, in a thread of its own so that a slow folder delays no recovery, until the block ends."""
    if folder is None:
        yield
        return
    dispatcher = Dispatcher(app)
    importer = Importer(site.settings, folder, Intake(site, dispatcher.enqueue))
    thread = threading.Thread(target=importer.run, args=(stop,), name="imports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        dispatcher.close()
