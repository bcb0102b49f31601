"""The process `listen`: the C-STORE listener, intake and storage commitment."""

from __future__ import annotations

import gc
import threading

import structlog

from dicom_io.receive.listener import Listener, ListenerHandlers
from worker.config.certificates import require_listener_certificate
from worker.config.dicom_peers import listener_settings
from worker.installation import Site
from worker.intake.commitment_scp import Committer
from worker.intake.intake import Intake
from worker.queue.celery_app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runtime.ports import StartFailed
from worker.runtime.registered_process import RegisteredProcess
from worker.runtime.signals import stop_event
from worker.runtime.timeouts import LISTENER_WATCH

_log = structlog.get_logger(__name__)


def run_listener(site: Site) -> None:
    """Receive DICOM objects until a signal asks this process to stop.

    Raises
    ------
    worker.config.settings.ConfigurationError
        If the listener's certificate cannot be used.
    worker.runtime.ports.StartFailed
        If a thread that the listener needs has ended by itself.
    """
    require_listener_certificate(site.settings, site.clock())
    stop = stop_event()
    dicom = site.settings.dicom
    dispatcher = Dispatcher(make_app(site.settings))
    intake = Intake(site, dispatcher.enqueue)
    process = RegisteredProcess(lambda: site.database, "listen", clock=site.clock)
    committer = Committer(site, lambda *words: listener.report(*words), process)
    listener = Listener(
        listener_settings(site.settings),
        ListenerHandlers(
            on_instance=intake.receive,
            on_rejected=intake.rejected,
            on_commitment=committer.receive,
            new_file=intake.arriving,
            clock=site.clock,
        ),
    )
    gc.collect()
    gc.freeze()  # pynetdicom calls gc.collect() every six seconds: the objects of the start need not be examined again
    listener.start()
    reporting = threading.Thread(target=committer.run, args=(stop,), name="commitment", daemon=True)
    reporting.start()
    _log.info("ready", ae_title=dicom.ae_title, host=dicom.host, port=listener.port)
    with process:
        while not stop.wait(LISTENER_WATCH):
            if not listener.is_listening:
                raise StartFailed("the thread that accepts associations has ended by itself")
            if not reporting.is_alive():
                raise StartFailed("the thread that reports storage commitment has ended by itself")
        listener.stop()
        committer.wake()
        dispatcher.close()
