"""An external Redis by one URL, with password and TLS; what is wrong with it is said."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.records import LIVE
from tests.peers.processes import Process, port_answers, wait_until
from tests.peers.programs import free_port, require_peer
from worker.config.settings import Broker, Settings
from worker.installation import Site
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.queue.celery_app import make_app
from worker.queue.dispatch import enqueue

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    subprocess.run(
        [require_peer("openssl"), *words.split(), "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def secured(tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[int]:
    """The port of a Redis that speaks TLS only and asks for a password."""
    port = free_port()
    cert, key = (str(path) for path in certificate)
    arguments = [require_peer("redis-server"), "--port", "0", "--tls-port", str(port), "--requirepass", "s3cret"]
    arguments += [
        "--tls-cert-file",
        cert,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        cert,
        "--tls-auth-clients",
        "no",
    ]
    process = Process("redis", [*arguments, "--save", "", "--dir", str(tmp_path)], tmp_path / "redis.log", tmp_path)
    process.start()
    wait_until(lambda: port_answers(port), 60, "redis answers")
    yield port
    process.stop()


def at(site: Site, url: str) -> Settings:
    return site.settings.model_copy(update={"broker": Broker(url=url)})


def test_rings_and_queue_lengths_go_over_tls_with_the_password(
    site: Site, secured: int, certificate: tuple[Path, Path]
) -> None:
    settings = at(site, f"rediss://:s3cret@127.0.0.1:{secured}/0?ssl_ca_certs={certificate[0]}")
    assert enqueue(make_app(settings), [1, 2], LIVE)
    assert queue_lengths(settings) == {"live": 2, "batch": 0}


@pytest.mark.parametrize(
    ("password", "trusted", "words"),
    [("wrong", True, "invalid username-password"), ("s3cret", False, "CERTIFICATE_VERIFY_FAILED")],
)
def test_wrong_password_and_untrusted_certificate_are_said_and_block_nobody(
    site: Site, secured: int, certificate: tuple[Path, Path], password: str, trusted: bool, words: str
) -> None:
    trust = f"?ssl_ca_certs={certificate[0]}" if trusted else "?ssl_cert_reqs=required"
    settings = at(site, f"rediss://:{password}@127.0.0.1:{secured}/0{trust}")
    with pytest.raises(BrokerUnavailable, match=words):
        queue_lengths(settings)
    assert not enqueue(make_app(settings), [1], LIVE)
