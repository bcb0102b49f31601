"""The DICOM peers that the settings name: destinations, nodes to call back, and our own listener."""

from __future__ import annotations

from dicom_io.network.association import Peer
from dicom_io.network.tls import TlsFiles
from dicom_io.receive.messages import ListenerSettings
from worker.config.destinations import AnyDestination, DicomDestination
from worker.config.settings import ConfigurationError, KnownPeer, Settings
from worker.config.tls import ListenerTls, PeerTls

OURSELVES = "self"


def dicom_destinations(settings: Settings) -> list[DicomDestination]:
    """Return the destinations that are DICOM nodes."""
    return [each for each in settings.destinations if isinstance(each, DicomDestination)]


def destination_peer(settings: Settings, node: DicomDestination | KnownPeer) -> Peer:
    """Return the peer of a destination, or of a node to call back."""
    tls = None if node.tls is None else peer_tls(node.tls)
    return Peer(node.ae_title, node.host, node.port, calling_ae_title=settings.dicom.ae_title, tls=tls)


def requester_peer(settings: Settings, ae_title: str) -> Peer | None:
    """Return the node of this AE title, from ``[[peers]]`` or else ``[[destinations]]``; None where neither has it."""
    nodes: list[KnownPeer | DicomDestination] = [*settings.peers, *dicom_destinations(settings)]
    return next((destination_peer(settings, node) for node in nodes if node.ae_title == ae_title.strip()), None)


def peer_tls(tls: PeerTls) -> TlsFiles:
    """Return the TLS files for connections to a peer."""
    return TlsFiles(tls.certificate, tls.key, tls.ca, check_hostname=tls.check_hostname)


def listener_tls(tls: ListenerTls) -> TlsFiles:
    """Return the TLS files of the listener."""
    return TlsFiles(tls.certificate, tls.key, tls.ca, require_client_certificate=tls.require_client_certificate)


def listener_settings(settings: Settings) -> ListenerSettings:
    """Return the listener's settings."""
    dicom = settings.dicom
    return ListenerSettings(
        ae_title=dicom.ae_title,
        host=dicom.host,
        port=dicom.port,
        allowed_callers=dicom.allowed_callers,
        check_called_ae=dicom.check_called_ae,
        maximum_associations=dicom.maximum_associations,
        maximum_pdu=dicom.maximum_pdu,
        maximum_object=dicom.object_megabytes << 20,
        maximum_held=dicom.held_megabytes << 20,
        association_timeout=dicom.association_timeout,
        idle_timeout=dicom.idle_timeout,
        pdu_timeout=dicom.pdu_timeout,
        tls=None if dicom.tls is None else listener_tls(dicom.tls),
    )


def own_peer(settings: Settings) -> Peer:
    """Return our own listener, called with an AE title that it accepts and, with TLS, with its own certificate."""
    dicom = settings.dicom
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(dicom.host, dicom.host)
    caller = dicom.allowed_callers[0].split("@")[0] if dicom.allowed_callers else "MODALITY"
    tls = None
    if dicom.tls is not None:
        ours = dicom.tls.certificate
        tls = TlsFiles(ours, dicom.tls.key, ca=ours, check_hostname=False, pinned=True)
    return Peer(dicom.ae_title, host, dicom.port, calling_ae_title=caller, tls=tls)


def named_destination(settings: Settings, name: str) -> AnyDestination:
    """Return the destination with this name.

    Raises
    ------
    ConfigurationError
        If there is no such destination; the message lists those there are.
    """
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    names = ", ".join([OURSELVES, *(destination.name for destination in settings.destinations)])
    raise ConfigurationError(f"no destination is named {name!r}; there are: {names}")


def named_peer(settings: Settings, name: str) -> Peer:
    """Return the DICOM destination with this name, or our own listener for ``self``.

    Raises
    ------
    ConfigurationError
        If there is no such destination, or it is no DICOM node.
    """
    if name == OURSELVES:
        return own_peer(settings)
    destination = named_destination(settings, name)
    if not isinstance(destination, DicomDestination):
        raise ConfigurationError(f"destination {name!r} is of kind {destination.kind!r}; allowed here: 'dicom'")
    return destination_peer(settings, destination)
