"""DICOM over TLS (PS3.15 B.9 to B.11, BCP 195): contexts from checked files, and the reasons of failed handshakes.

TLS 1.2 with forward secrecy and authenticated encryption, or TLS 1.3.
"""

import contextlib
import logging
import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_log = logging.getLogger(__name__)

# RFC 9325 4.2; those of TLS 1.3 are all acceptable
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

# OpenSSL's reason -> description, on either side
_REASONS = {
    "WRONG_VERSION_NUMBER": "the peer does not use TLS",
    "HTTP_REQUEST": "the peer does not use TLS",
    "UNKNOWN_PROTOCOL": "the peer does not use TLS",
    "PACKET_LENGTH_TOO_LONG": "the peer does not use TLS",
    "RECORD_LAYER_FAILURE": "the peer does not use TLS",
    "UNSUPPORTED_PROTOCOL": "the peer offers no TLS version above 1.1",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no common TLS version (1.2 or 1.3)",
    "NO_SHARED_CIPHER": "no common TLS cipher suite",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "no common TLS cipher suite, or the peer requires a client certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer presented no client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer requires a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust the issuer of our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired, says the peer",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the peer does not accept our certificate for this use",
}


class TlsProblem(Exception):
    """The TLS files cannot be used; the message names the file, the problem, and the remedy."""


@dataclass(frozen=True)
class TlsFiles:
    """Certificates and key, all PEM files.

    Attributes
    ----------
    certificate, key
        Our own; the certificate followed by its intermediate certificates. Optional as client.
    ca
        Certificates of the trusted authorities; None: as client, those of the system.
    require_client_certificate
        As server: whether a client without a certificate issued by `ca` is rejected.
    check_hostname
        As client: whether the server's certificate must name the host.
    pinned
        As client: trust the certificates of `ca` themselves, whoever issued them.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    require_client_certificate: bool = True
    check_hostname: bool = True
    pinned: bool = False


@dataclass(frozen=True)
class CertificateInfo:
    """Subject and validity (UTC) of the first certificate of a file."""

    subject: str
    not_before: datetime
    not_after: datetime


def listening_context(files: TlsFiles) -> ssl.SSLContext:
    """Make a listener's context.

    Raises
    ------
    TlsProblem
        If a file is missing, cannot be read or is not PEM, or the key does not belong to the certificate.
    """
    context = _restricted(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # an association carries many objects: resumption gains nothing
    _load_own(context, files)
    if files.ca is not None:
        _trust(context, files.ca)
        context.verify_mode = ssl.CERT_REQUIRED if files.require_client_certificate else ssl.CERT_OPTIONAL
    elif files.require_client_certificate:
        raise TlsProblem("a client certificate is required, but no authority (ca) is configured that issues it")
    return context


class RenewedContext:
    """A listener's context that is renewed when its files change: a renewed certificate needs no restart.

    Raises
    ------
    TlsProblem
        As `listening_context`, where the first files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._loaded = self._state()
        self._context = listening_context(files)

    def current(self) -> ssl.SSLContext:
        """Return the context for the next connection: the last one that could be made."""
        with self._lock:
            state = self._state()
            if state != self._loaded:
                self._loaded = state  # unusable files are logged once, and tried again after their next change
                try:
                    self._context = listening_context(self._files)
                    _log.warning("the listener's TLS files have changed and were reloaded")
                except TlsProblem as problem:
                    _log.error("the changed TLS files cannot be used, the previous ones stay in use: %s", problem)
            return self._context

    def _state(self) -> list[tuple[int, ...]]:
        """Inode, size and modification time of each file that exists."""
        states: list[tuple[int, ...]] = []
        for path in (self._files.certificate, self._files.key, self._files.ca):
            with contextlib.suppress(OSError):
                if path is not None:
                    found = path.stat()
                    states.append((found.st_ino, found.st_size, found.st_mtime_ns))
        return states


class CallingContext(ssl.SSLContext):
    """A context for one connection that keeps the reason of its failure, which pynetdicom only logs."""

    failure = ""


class _RecordingSocket(ssl.SSLSocket):
    """Stores the reason of a failure in its context."""

    context: CallingContext

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            self.context.failure = handshake_failure(error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:  # with TLS 1.3, a rejected client certificate is reported only now
            self.context.failure = handshake_failure(error)
            raise


def calling_context(files: TlsFiles) -> CallingContext:
    """Make a context for one connection to a peer.

    Raises
    ------
    TlsProblem
        As `listening_context`.
    """
    context = CallingContext(ssl.PROTOCOL_TLS_CLIENT)
    _restricted(context)
    context.sslsocket_class = _RecordingSocket
    context.check_hostname = files.check_hostname
    if files.ca is None:
        context.load_default_certs()
    else:
        _trust(context, files.ca)
    if files.pinned:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if files.certificate is not None:
        _load_own(context, files)
    return context


def _restricted(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    if files.certificate is None or files.key is None:
        raise TlsProblem("TLS needs both a certificate and its key")
    _readable(files.certificate, "certificate")
    _readable(files.key, "key")

    def no_password() -> str:
        raise TlsProblem(f"key {files.key} is encrypted; a service cannot ask for its password")

    try:
        context.load_cert_chain(files.certificate, files.key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsProblem(f"key {files.key} does not belong to certificate {files.certificate}") from error
        raise TlsProblem(
            f"certificate {files.certificate} and key {files.key} cannot be used: {_words(error)}; both must be PEM"
        ) from error


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    _readable(ca, "ca")
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise TlsProblem(f"ca {ca} cannot be used: {_words(error)}; it must hold PEM certificates") from error


def _readable(path: Path, what: str) -> None:
    try:
        with path.open("rb") as handle:
            handle.read(1)
    except PermissionError as error:
        raise TlsProblem(f"{what} {path} may not be read by this user: change its owner or mode") from error
    except OSError as error:
        raise TlsProblem(f"{what} {path} cannot be read: {error.strerror}") from error


def read_certificate(path: Path) -> CertificateInfo:
    """Read the first certificate of a PEM file.

    Raises
    ------
    TlsProblem
        If the file cannot be read or holds none.
    """
    from cryptography import x509  # not needed where DICOM is plain

    _readable(path, "certificate")
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise TlsProblem(f"certificate {path} cannot be used: it holds no PEM certificate") from error
    subject = certificate.subject.rfc4514_string()
    return CertificateInfo(subject, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def handshake_failure(error: OSError) -> str:
    """Describe why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "the peer closed the connection during the TLS handshake"
    if isinstance(error, TimeoutError):
        return "the TLS handshake was not completed in time"
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", f"TLS failed: {_words(error)}")
    return f"TLS failed: {error.strerror or type(error).__name__}"


def _words(error: ssl.SSLError) -> str:
    return (error.reason or error.strerror or type(error).__name__).replace("_", " ").lower()


def shutdown(connection: socket.socket) -> None:
    """Shut a connection down, also while another thread reads it; without a TLS closure alert."""
    with contextlib.suppress(OSError):  # it is closed already
        # SSLSocket.shutdown removes TLS from the socket, and its reader would continue in plain
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def secured(connection: socket.socket, context: ssl.SSLContext, seconds: float) -> ssl.SSLSocket:
    """Wrap an accepted connection, without its handshake; `ssl.SSLSocket.do_handshake` ends within ``seconds``."""
    connection.settimeout(seconds)
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


def is_tls(first_bytes: bytes) -> bool:
    """Whether the first byte is that of a TLS handshake record (RFC 8446 5.1), which no DICOM PDU begins with."""
    return first_bytes[:1] == b"\x16"
