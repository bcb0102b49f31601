"""Checks of encryption: which addresses use TLS, and until when the certificates are valid."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from dicom_io.network.tls import TlsProblem, read_certificate
from worker.config.certificates import NamedCertificate, out_of_date, shown_certificates
from worker.doctor.check_result import CheckResult, Examined
from worker.runtime.timeouts import BROKER_TIMEOUT

_OURSELVES = ("127.0.0.1", "::1", "localhost")
_EXPIRES_SOON = timedelta(days=30)
_AGAIN = "at the same path: changed files are read at the next connection, without a restart"
_RENEW = f"renew it {_AGAIN}"


def certificates(examined: Examined) -> Iterator[CheckResult]:
    """The certificates that DICOM peers see, and the broker's; the web pages use plain HTTP."""
    settings = examined.settings
    for shown in shown_certificates(settings):
        yield _of_file(shown, examined.clock())
    broker = settings.broker.url.get_secret_value()
    if broker.startswith("rediss://"):
        yield _of_broker(broker, examined.clock())
    hosts = {"web": settings.web.host} | ({"DICOM": settings.dicom.host} if settings.dicom.tls is None else {})
    beyond = {name: host for name, host in sorted(hosts.items()) if host not in _OURSELVES}
    if not beyond:
        yield CheckResult("certificates", "ok", f"unencrypted, on this machine only: {' and '.join(sorted(hosts))}")
        return
    detail = "unencrypted: " + ", ".join(f"{name} on {host}" for name, host in beyond.items())
    if "web" in beyond:
        remedy = 'the pages need no login: set [web] host = "127.0.0.1" and put a proxy with authentication in front'
        yield CheckResult("certificates", "warning", detail, remedy)
    else:
        yield CheckResult("certificates", "ok", f"{detail}, so use it within the hospital's network only")


def _of_file(shown: NamedCertificate, today: datetime) -> CheckResult:
    check = f"certificate {shown.name}"
    try:
        facts = read_certificate(shown.path)
        shown.use()
    except TlsProblem as error:
        return CheckResult(check, "failed", str(error), f"correct the file {_AGAIN}")
    detail = f"{shown.path} ({facts.subject}) is valid until {facts.not_after:%Y-%m-%d}"
    problem = out_of_date(facts, today)
    if problem:
        return CheckResult(check, "failed", f"{shown.path} ({facts.subject}) {problem}", _RENEW)
    if facts.not_after - today < _EXPIRES_SOON:
        return CheckResult(check, "warning", f"{detail}, {(facts.not_after - today).days} days from now", _RENEW)
    return CheckResult(check, "ok", detail)


def _of_broker(url: str, today: datetime) -> CheckResult:
    check = "certificate broker"
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host, port = parts.hostname or "localhost", parts.port or 6379
    if options.get("ssl_cert_reqs", "").lower() in ("none", "cert_none"):
        remedy = "remove ssl_cert_reqs=none from [broker] url and name the certificate authority with ssl_ca_certs=FILE"
        return CheckResult(check, "warning", f"{host}:{port} is not verified: any certificate is accepted", remedy)
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
        remedy = "renew its certificate, or correct the ssl_... options of [broker] url"
        return CheckResult(check, "failed", f"{host}:{port}: {reason}", remedy)
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(stated["notAfter"])), UTC)
    detail = f"{host}:{port} is valid until {until:%Y-%m-%d}"
    if until - today < _EXPIRES_SOON:
        return CheckResult(check, "warning", detail, "renew it")
    return CheckResult(check, "ok", detail)
