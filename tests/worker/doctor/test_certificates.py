"""The doctor believes no certificate that a client would not believe, and says when one will end."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.programs import require_peer
from worker.config.settings import load_settings
from worker.doctor.check_result import Examined
from worker.doctor.examination import CHECKS
from worker.installation import Site
from worker.runtime.clock import now


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[Callable[[int], tuple[int, Path]]]:
    """Starts a TLS server on localhost whose own certificate is good for so many days; returns port and certificate."""
    ended = []

    def start(days: int) -> tuple[int, Path]:
        certificate, key = tmp_path / f"{days}.pem", tmp_path / f"{days}.key"
        words = [
            require_peer("openssl"),
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", str(days)]
        subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        listening = socket.create_server(("localhost", 0))
        server = context.wrap_socket(listening, server_side=True)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except ssl.SSLError:
                    continue  # who does not believe the certificate hangs up
                except OSError:
                    return
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        ended.append((server, thread))
        return int(server.getsockname()[1]), certificate

    yield start
    for server, thread in ended:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(60)


@pytest.mark.peer
def test_certificate_of_the_broker_is_judged(
    site: Site, tls_server: Callable[[int], tuple[int, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {}
    for days, trusted in ((365, True), (10, True), (365, False)):
        port, certificate = tls_server(days)
        options = f"?ssl_ca_certs={certificate}" if trusted else ""
        monkeypatch.setenv("CXR_TRIAGE_BROKER_URL", f"rediss://:hunter2@localhost:{port}/0{options}")
        finding, _rest = CHECKS["certificates"](Examined(load_settings(home=site.settings.home), (), now))
        assert "hunter2" not in str(finding)
        said[days, trusted] = (finding.level, finding.detail)
    assert said[365, True][0] == "ok"
    assert "is valid until" in said[365, True][1]
    assert said[10, True][0] == "warning"
    assert said[365, False][0] == "failed"
    assert "self-signed certificate" in said[365, False][1]
    monkeypatch.setenv("CXR_TRIAGE_BROKER_URL", "rediss://localhost:1/0?ssl_cert_reqs=none")
    finding, _rest = CHECKS["certificates"](Examined(load_settings(home=site.settings.home), (), now))
    assert (finding.level, "is not verified" in finding.detail) == ("warning", True)
