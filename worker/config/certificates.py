"""The certificates that the settings name for DICOM: whether they can be used, and until when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from dicom_io.network.tls import CertificateInfo, TlsProblem, calling_context, listening_context, read_certificate
from worker.config.dicom_peers import dicom_destinations, listener_tls, peer_tls
from worker.config.settings import ConfigurationError, Settings


@dataclass(frozen=True)
class NamedCertificate:
    """One certificate of ours: its purpose, its file, and a check that raises `TlsProblem` if it is unusable."""

    name: str
    path: Path
    use: Callable[[], object]


def shown_certificates(settings: Settings) -> Iterator[NamedCertificate]:
    """Yield every certificate that we present to DICOM peers."""
    if settings.dicom.tls is not None:
        files = listener_tls(settings.dicom.tls)
        yield NamedCertificate("listener", settings.dicom.tls.certificate, partial(listening_context, files))
    for destination in dicom_destinations(settings):
        if destination.tls is not None and destination.tls.certificate is not None:
            use = partial(calling_context, peer_tls(destination.tls))
            yield NamedCertificate(f"destination {destination.name}", destination.tls.certificate, use)


def require_listener_certificate(settings: Settings, today: datetime) -> None:
    """Raise `ConfigurationError` if the listener cannot speak TLS with what ``[dicom.tls]`` names, on ``today``."""
    if settings.dicom.tls is None:
        return
    try:
        listening_context(listener_tls(settings.dicom.tls))
        problem = out_of_date(read_certificate(settings.dicom.tls.certificate), today)
    except TlsProblem as error:
        raise ConfigurationError(f"[dicom.tls]: {error}") from error
    if problem:
        raise ConfigurationError(
            f"[dicom.tls]: certificate {settings.dicom.tls.certificate} {problem}; no peer would accept it: renew it"
        )


def require_destination_certificates(settings: Settings) -> None:
    """Raise `ConfigurationError` if a destination's files cannot be used.

    An expired certificate does not stop the start: it would stop delivery to the other destinations as well.
    """
    named = [(f"[destinations.tls] of {each.name}", each.tls) for each in dicom_destinations(settings)]
    named += [(f"[peers.tls] of {each.ae_title}", each.tls) for each in settings.peers]
    for name, tls in named:
        if tls is None:
            continue
        try:
            calling_context(peer_tls(tls))
        except TlsProblem as error:
            raise ConfigurationError(f"{name}: {error}") from error


def out_of_date(facts: CertificateInfo, today: datetime) -> str:
    """Return why a certificate is not valid now; an empty string if it is valid."""
    if facts.not_after < today:
        return f"has expired on {facts.not_after:%Y-%m-%d %H:%M} UTC"
    if facts.not_before > today:
        return f"is not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC"
    return ""
