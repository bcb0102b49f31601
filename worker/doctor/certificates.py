"""The doctor's look at what is encrypted, and until when its certificates are good."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from dicom_io.network.tls import TlsProblem, read_certificate
from worker.config.certificates import NamedCertificate, out_of_date, shown_certificates
from worker.doctor.check_result import Examined, Finding
from worker.runtime.timeouts import BROKER_TIMEOUT

_OURSELVES = ("127.0.0.1", "::1", "localhost")
_EXPIRES_SOON = timedelta(days=30)
_AGAIN = "in its place: changed files are read at the next connection, without a restart"
_RENEW = f"renew it {_AGAIN}"


def certificates(examined: Examined) -> Iterator[Finding]:
    """The certificates that DICOM peers see and the broker's, where TLS is spoken; the pages are plain so far."""
    settings = examined.settings
    for shown in shown_certificates(settings):
        yield _of_file(shown, examined.clock())
    broker = settings.broker.url.get_secret_value()
    if broker.startswith("rediss://"):
        yield _of_broker(broker, examined.clock())
    hosts = {"web": settings.web.host} | ({"DICOM": settings.dicom.host} if settings.dicom.tls is None else {})
    beyond = {name: host for name, host in sorted(hosts.items()) if host not in _OURSELVES}
    if not beyond:
        yield Finding("certificates", "ok", f"unencrypted: {' and '.join(sorted(hosts))}, for this machine only")
        return
    seen = "unencrypted: " + ", ".join(f"{name} on {host}" for name, host in beyond.items())
    if "web" in beyond:
        mend = 'the pages ask for no password: set [web] host = "127.0.0.1", with a proxy before it that does'
        yield Finding("certificates", "warning", seen, mend)
    else:
        yield Finding("certificates", "ok", f"{seen}, for the hospital's own network")


def _of_file(shown: NamedCertificate, today: datetime) -> Finding:
    check = f"certificate {shown.name}"
    try:
        facts = read_certificate(shown.path)
        shown.use()
    except TlsProblem as error:
        return Finding(check, "failed", str(error), f"mend it {_AGAIN}")
    seen = f"{shown.path} ({facts.subject}) is good until {facts.not_after:%Y-%m-%d}"
    problem = out_of_date(facts, today)
    if problem:
        return Finding(check, "failed", f"{shown.path} ({facts.subject}) {problem}", _RENEW)
    if facts.not_after - today < _EXPIRES_SOON:
        return Finding(check, "warning", f"{seen}, {(facts.not_after - today).days} days from now", _RENEW)
    return Finding(check, "ok", seen)


def _of_broker(url: str, today: datetime) -> Finding:
    check = "certificate broker"
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host, port = parts.hostname or "localhost", parts.port or 6379
    if options.get("ssl_cert_reqs", "").lower() in ("none", "cert_none"):
        mend = "take ssl_cert_reqs=none out of [broker] url, and name the authority with ssl_ca_certs=FILE"
        return Finding(check, "warning", f"{host}:{port} is believed whatever its certificate", mend)
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        context.check_hostname = options.get("ssl_check_hostname", "true").lower() != "false"
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        with (
            socket.create_connection((host, port), timeout=BROKER_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            stated = encrypted.getpeercert() or {}
    except OSError as error:  # ssl.SSLError is one, and so is a file that is not there
        reason = getattr(error, "verify_message", "") or error.strerror or str(error)
        mend = "renew its certificate, or mend the ssl_... options of [broker] url"
        return Finding(check, "failed", f"{host}:{port}: {reason}", mend)
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(stated["notAfter"])), UTC)
    seen = f"{host}:{port} is good until {until:%Y-%m-%d}"
    if until - today < _EXPIRES_SOON:
        return Finding(check, "warning", seen, "renew it")
    return Finding(check, "ok", seen)
