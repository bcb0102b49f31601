"""Which transport serves a configured destination; a new kind is a file beside `c_store` and a line here."""

from __future__ import annotations

from worker.config.destinations import AnyDestination
from worker.config.dicom_peers import destination_peer
from worker.config.settings import Settings
from worker.delivery.transports.c_store import CStoreTransport
from worker.delivery.transports.transport import Transport


def open_transport(settings: Settings, destination: AnyDestination) -> Transport:
    """Return the transport to a destination; nothing is connected yet."""
    match destination.kind:
        case "dicom":
            return CStoreTransport(destination_peer(settings, destination))
