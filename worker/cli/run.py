"""Commands that run: the whole machine (`up`), or one of its processes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli_options import Config, Home
from worker.site import Site, open_site
from worker.stopping import stop_event

if TYPE_CHECKING:
    from celery import Celery


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    panel = "Run"
    for command in (up, listen, work, deliver, schedule, web):
        app.command(rich_help_panel=panel)(command)


def up(
    home: Home = None,
    config: Config = None,
    demonstrate: Annotated[
        bool,
        typer.Option("--demonstrate", help="Send two real radiographs through, show what became of them, and go on."),
    ] = False,
) -> None:
    """Run everything on this machine: broker, listener, worker, deliver, scheduler, web. Stops on Ctrl-C."""
    from worker.up import run_up

    site = open_site(home, config)
    raise typer.Exit(run_up(site, home, config, demonstrate=demonstrate))


def listen(home: Home = None, config: Config = None) -> None:
    """Receive DICOM objects."""
    site = _start("listen", home, config)
    import threading

    from dicom_io.listener import Listener
    from worker.celery_app import make_app
    from worker.certificates import require_listener_certificate
    from worker.commitment import Committer
    from worker.doorbell import Doorbell
    from worker.intake import Intake
    from worker.peers import listener_settings
    from worker.ports import StartFailed
    from worker.timing import LISTENER_WATCH

    require_listener_certificate(site.settings)
    stop = stop_event()
    dicom = site.settings.dicom
    doorbell = Doorbell(make_app(site.settings))
    intake = Intake(site.settings, site.database, site.store, doorbell.ring)
    committer = Committer(site.settings, site.database, site.store, lambda *words: listener.report(*words))
    listener = Listener(
        listener_settings(site.settings),
        on_instance=intake.receive,
        on_rejected=intake.rejected,
        on_released=lambda _association, _studies: None,
        on_commitment=committer.receive,
        begin=intake.arriving,
    )
    gc.collect()
    gc.freeze()  # pynetdicom collects by hand every six seconds: what every start leaves need not be looked at again
    listener.start()
    reporting = threading.Thread(target=committer.run, args=(stop,), name="commitment", daemon=True)
    reporting.start()
    _log_ready(ae_title=dicom.ae_title, host=dicom.host, port=listener.port)
    while not stop.wait(LISTENER_WATCH):
        if not listener.is_listening:
            raise StartFailed("the thread that accepts associations has ended by itself")
        if not reporting.is_alive():
            raise StartFailed("the thread that reports storage commitment has ended by itself")
    listener.stop()
    committer.wake()
    doorbell.close()


def work(home: Home = None, config: Config = None) -> None:
    """Read images: a Celery worker with a child a core."""
    site = _start("work", home, config)
    site.database.ping()
    site.database.dispose()  # children open their own
    site.store  # noqa: B018 - created before the children look for it
    from worker.celery_worker import run_worker

    run_worker(site.settings)


def deliver(home: Home = None, config: Config = None) -> None:
    """Send made objects to the configured destinations."""
    site = _start("deliver", home, config)
    from worker.certificates import require_destination_certificates
    from worker.delivery import deliver_forever

    require_destination_certificates(site.settings)
    stop = stop_event()
    database, store = site.database, site.store
    _log_ready(destinations=[destination.name for destination in site.settings.destinations])
    deliver_forever(site.settings, database, store, stop)


def schedule(home: Home = None, config: Config = None) -> None:
    """Sweep: free what dead processes held, ring again for what is unfinished, remove what retention says."""
    site = _start("schedule", home, config)
    from worker.celery_app import make_app
    from worker.imports import import_folder
    from worker.sweep import sweep_forever

    stop = stop_event()
    database, store, app = site.database, site.store, make_app(site.settings)
    folder = import_folder(site.settings)
    _log_ready()
    with _watched(site, folder, app, stop):
        sweep_forever(site.settings, database, store, app, stop)


def web(home: Home = None, config: Config = None) -> None:
    """Serve the pages, the same facts as JSON, health and metrics."""
    site = _start("web", home, config)
    from worker.web import serve

    serve(site)


@contextmanager
def _watched(site: Site, folder: Path | None, app: Celery, stop: threading.Event) -> Iterator[None]:
    """Import from a folder, in a thread of its own so that a slow one holds up no sweep, until the block ends."""
    if folder is None:
        yield
        return
    from worker.doorbell import Doorbell
    from worker.imports import Importer
    from worker.intake import Intake

    doorbell = Doorbell(app)
    importer = Importer(site.settings, folder, Intake(site.settings, site.database, site.store, doorbell.ring))
    thread = threading.Thread(target=importer.run, args=(stop,), name="imports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        doorbell.close()


def _start(process: str, home: Path | None, config: Path | None) -> Site:
    from worker.logs import configure_logging

    site = open_site(home, config)
    configure_logging(process)
    return site


def _log_ready(**facts: object) -> None:
    import structlog

    structlog.get_logger(__name__).info("ready", **facts)
