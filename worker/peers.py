"""DICOM peers as the settings name them: the configured destinations, and our own listener."""

from __future__ import annotations

from dicom_io.sender import Peer
from worker.settings import ConfigurationError, Destination, Settings

OURSELVES = "self"


def destination_peer(settings: Settings, destination: Destination) -> Peer:
    """Return a destination as the sender knows it."""
    return Peer(destination.ae_title, destination.host, destination.port, calling_ae_title=settings.dicom.ae_title)


def own_peer(settings: Settings) -> Peer:
    """Return our own listener, called by a title that it admits."""
    dicom = settings.dicom
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(dicom.host, dicom.host)
    caller = dicom.allowed_callers[0].split("@")[0] if dicom.allowed_callers else "MODALITY"
    return Peer(dicom.ae_title, host, dicom.port, calling_ae_title=caller)


def named_peer(settings: Settings, name: str) -> Peer:
    """Return the destination with this name, or our own listener for ``self``.

    Raises
    ------
    ConfigurationError
        If there is no such destination; the message lists those there are.
    """
    if name == OURSELVES:
        return own_peer(settings)
    for destination in settings.destinations:
        if destination.name == name:
            return destination_peer(settings, destination)
    names = ", ".join([OURSELVES, *(destination.name for destination in settings.destinations)])
    raise ConfigurationError(f"no destination is named {name!r}; there are: {names}")
