"""The process `deliver`: the outbox, sent to every configured destination."""

from __future__ import annotations

import structlog

from worker.config.certificates import require_destination_certificates
from worker.delivery.sender import deliver_forever
from worker.installation import Site
from worker.runtime.registered_process import RegisteredProcess
from worker.runtime.signals import stop_event

_log = structlog.get_logger(__name__)


def run_delivery(site: Site) -> None:
    """Send made objects until a signal asks this process to stop.

    Raises
    ------
    worker.config.settings.ConfigurationError
        If a destination's certificate cannot be used.
    """
    require_destination_certificates(site.settings)
    stop = stop_event()
    database, store = site.database, site.store
    _log.info("ready", destinations=[destination.name for destination in site.settings.destinations])
    with RegisteredProcess(lambda: database, "deliver", clock=site.clock) as process:
        deliver_forever(site.settings, database, store, stop, process)
