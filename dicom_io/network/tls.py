"""DICOM over TLS (PS3.15 B.9 to B.11, BCP 195): contexts made from files that were looked at first.

TLS 1.2 with forward secrecy and authenticated encryption, or 1.3; nothing older. What a handshake failed for is said in
words for people, on both sides.
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

# RFC 9325 4.2; TLS 1.3 has its own, all of them good
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

# OpenSSL's reason -> ours, for whichever side says it
_REASONS = {
    "WRONG_VERSION_NUMBER": "what was sent is not TLS",
    "HTTP_REQUEST": "what was sent is not TLS",
    "UNKNOWN_PROTOCOL": "what was sent is not TLS",
    "PACKET_LENGTH_TOO_LONG": "what was sent is not TLS",
    "RECORD_LAYER_FAILURE": "what was sent is not TLS",
    "UNSUPPORTED_PROTOCOL": "the peer speaks nothing newer than TLS 1.1",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer speaks no TLS version of ours (1.2 and 1.3)",
    "NO_SHARED_CIPHER": "the peer speaks no cipher of ours",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer speaks no cipher of ours, or wants a client certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the authority of our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the peer does not accept our certificate for this purpose",
}


class TlsProblem(Exception):
    """TLS cannot be spoken with these files; the message names the file, what is wrong with it, and the mend."""


@dataclass(frozen=True)
class TlsFiles:
    """What TLS is spoken with, PEM files all.

    Attributes
    ----------
    certificate, key
        Our own, the certificate followed by those between it and its authority. Optional where we call.
    ca
        The authorities whose certificates are believed; None: where we call, the system's.
    require_client_certificate
        Where we listen: whether a caller without a certificate of `ca` is refused.
    check_hostname
        Where we call: whether the certificate must name the host.
    only_this
        Where we call: believe the certificates of `ca` themselves, whoever issued them.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    require_client_certificate: bool = True
    check_hostname: bool = True
    only_this: bool = False


@dataclass(frozen=True)
class CertificateFacts:
    """Of one certificate file: whose its first certificate is, and from when until when it is good (UTC)."""

    subject: str
    good_from: datetime
    good_until: datetime


def listening_context(files: TlsFiles) -> ssl.SSLContext:
    """Make the context that a listener shows its certificate with.

    Raises
    ------
    TlsProblem
        If a file is missing, cannot be read, is no PEM, or the key is not the certificate's.
    """
    context = _bounded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # an association lasts for many objects: nothing is gained by resuming
    _show(context, files)
    if files.ca is not None:
        _believe(context, files.ca)
        context.verify_mode = ssl.CERT_REQUIRED if files.require_client_certificate else ssl.CERT_OPTIONAL
    elif files.require_client_certificate:
        raise TlsProblem("a client certificate is required, but no authority (ca) is named that would have issued it")
    return context


class RenewedContext:
    """A listener's context, made anew when its files were: a renewed certificate needs no restart.

    Raises
    ------
    TlsProblem
        As `listening_context`, where the first files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._seen = self._state()
        self._context = listening_context(files)

    def current(self) -> ssl.SSLContext:
        """Return the context for the next connection: the last one that could be made."""
        with self._lock:
            state = self._state()
            if state != self._seen:
                self._seen = state  # what cannot be used is said once, and tried again when it has changed again
                try:
                    self._context = listening_context(self._files)
                    _log.warning("the listener's certificate was read anew: its files have changed")
                except TlsProblem as problem:
                    _log.error("the listener's changed TLS files cannot be used, the former stay in use: %s", problem)
            return self._context

    def _state(self) -> list[tuple[int, ...]]:
        """What tells that a file has changed; of one that is not there, nothing."""
        states: list[tuple[int, ...]] = []
        for path in (self._files.certificate, self._files.key, self._files.ca):
            with contextlib.suppress(OSError):
                if path is not None:
                    found = path.stat()
                    states.append((found.st_ino, found.st_size, found.st_mtime_ns))
        return states


class CallingContext(ssl.SSLContext):
    """A context for one connection, which remembers what it failed for: pynetdicom only logs it."""

    failure = ""


class _TellingSocket(ssl.SSLSocket):
    """Leaves what went wrong with its context."""

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
        except ssl.SSLError as error:  # with TLS 1.3, a refused client certificate is heard of only now
            self.context.failure = handshake_failure(error)
            raise


def calling_context(files: TlsFiles) -> CallingContext:
    """Make the context of one connection to a peer.

    Raises
    ------
    TlsProblem
        As `listening_context`.
    """
    context = CallingContext(ssl.PROTOCOL_TLS_CLIENT)
    _bounded(context)
    context.sslsocket_class = _TellingSocket
    context.check_hostname = files.check_hostname
    if files.ca is None:
        context.load_default_certs()
    else:
        _believe(context, files.ca)
    if files.only_this:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if files.certificate is not None:
        _show(context, files)
    return context


def _bounded(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION
    return context


def _show(context: ssl.SSLContext, files: TlsFiles) -> None:
    if files.certificate is None or files.key is None:
        raise TlsProblem("TLS needs both, a certificate and its key")
    _readable(files.certificate, "certificate")
    _readable(files.key, "key")

    def no_password() -> str:
        raise TlsProblem(f"key {files.key} is encrypted; a service has nobody to ask for its password")

    try:
        context.load_cert_chain(files.certificate, files.key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsProblem(f"key {files.key} is not the key of certificate {files.certificate}") from error
        raise TlsProblem(
            f"certificate {files.certificate} and key {files.key} cannot be used: {_words(error)}; both must be PEM"
        ) from error


def _believe(context: ssl.SSLContext, ca: Path) -> None:
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


def certificate_facts(path: Path) -> CertificateFacts:
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
    return CertificateFacts(subject, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def handshake_failure(error: OSError) -> str:
    """Say in words for people why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "the peer hung up during the TLS handshake"
    if isinstance(error, TimeoutError):
        return "the TLS handshake was not finished in time"
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", f"TLS failed: {_words(error)}")
    return f"TLS failed: {error.strerror or type(error).__name__}"


def _words(error: ssl.SSLError) -> str:
    return (error.reason or error.strerror or type(error).__name__).replace("_", " ").lower()


def shut(connection: socket.socket) -> None:
    """End a connection under whoever waits for it, in any thread; TLS is not asked."""
    with contextlib.suppress(OSError):  # it is gone already
        # an SSLSocket's own shutdown would take TLS away, and its reader would go on in plain
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def secured(connection: socket.socket, context: ssl.SSLContext, seconds: float) -> ssl.SSLSocket:
    """Wrap an accepted connection without a handshake yet; `ssl.SSLSocket.do_handshake` ends within ``seconds``."""
    connection.settimeout(seconds)
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


def is_tls(first_bytes: bytes) -> bool:
    """Whether a connection begins as TLS does (a handshake record, RFC 8446 5.1), which no DICOM PDU does."""
    return first_bytes[:1] == b"\x16"
