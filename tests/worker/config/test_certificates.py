"""TLS of DICOM as a site configures it: what cannot work stops the start in words, and doctor sees an end coming."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_io.network.association import PeerUnreachable
from dicom_io.network.tls import TlsFiles
from dicom_io.send.storage_scu import echo
from tests.dicom_io.wire import Witness
from tests.peers.certificates import Authority
from worker.config.certificates import require_destination_certificates, require_listener_certificate
from worker.config.dicom_peers import destination_peer, listener_settings, own_peer
from worker.config.settings import ConfigurationError, Settings, load_settings
from worker.doctor.check_result import Examined
from worker.doctor.examination import CHECKS
from worker.runtime.clock import now


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def configured(tmp_path: Path, files: TlsFiles, more: str = "") -> Path:
    path = tmp_path / "site.toml"
    path.write_text(
        f"[dicom]\nhost = '127.0.0.1'\nport = 0\n[web]\nhost = '127.0.0.1'\n[dicom.tls]\n"
        f"certificate = '{files.certificate}'\nkey = '{files.key}'\nca = '{files.ca}'\n{more}",
        encoding="utf-8",
    )
    return path


def settings_of(tmp_path: Path, files: TlsFiles, more: str = "") -> Settings:
    return load_settings(configured(tmp_path, files, more), tmp_path / "home")


def test_listener_as_configured_answers_our_own_echo_and_nobody_without_a_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    from dataclasses import replace

    from dicom_io.receive.listener import Listener

    settings = settings_of(tmp_path, authority.issue("listener"))
    with Listener(listener_settings(settings), Witness().handlers()) as listener:
        peer = replace(own_peer(settings), port=listener.port)
        echo(peer)
        with pytest.raises(PeerUnreachable):
            echo(replace(peer, tls=TlsFiles(ca=authority.ca)))
        with pytest.raises(PeerUnreachable):
            echo(replace(peer, tls=None))


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[dicom.tls]\ncertificate = 'a'\n", r"dicom\.tls\.key: Field required"),
        (
            "[dicom.tls]\ncertificate = 'a'\nkey = 'b'\n",
            r"dicom\.tls: .*ca must name the authority that issues client certificates",
        ),
        ("[dicom.tls]\ncertificat = 'a'\n", r"dicom\.tls\.certificat: no such key; did you mean certificate\?"),
        (
            "[[destinations]]\nname='p'\nae_title='P'\nhost='h'\nport=1\n[destinations.tls]\nkey='a'\n",
            r"destinations\.0\.tls: .*certificate and key belong together",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused_with_its_name(tmp_path: Path, toml: str, told: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=told):
        load_settings(path, tmp_path)


def test_certificates_that_no_peer_would_accept_stop_the_start(tmp_path: Path, authority: Authority) -> None:
    require_listener_certificate(settings_of(tmp_path, authority.issue("good")), now())
    with pytest.raises(ConfigurationError, match=r"\[dicom\.tls\]: certificate .*late\.pem has expired on 20\d\d-"):
        require_listener_certificate(settings_of(tmp_path, authority.issue("late", days=-1)), now())
    good = authority.issue("good")
    assert good.key
    good.key.unlink()
    with pytest.raises(ConfigurationError, match=r"\[dicom\.tls\]: key .*good\.key cannot be read: No such file"):
        require_listener_certificate(settings_of(tmp_path, good), now())


def test_listen_ends_at_once_with_the_reason_where_its_certificate_has_expired(
    tmp_path: Path, authority: Authority
) -> None:
    config = configured(tmp_path, authority.issue("late", days=-1))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CXR_TRIAGE_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "worker", "listen", "--home", tmp_path / "home", "--config", config],
        capture_output=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert b"late.pem has expired on" in done.stderr
    assert b"Traceback" not in done.stderr


def test_destination_speaks_tls_as_configured_and_its_files_are_looked_at_before(
    tmp_path: Path, authority: Authority
) -> None:
    files = authority.issue("listener")
    place = "[[destinations]]\nname = 'pacs'\nae_title = 'PACS'\nhost = '127.0.0.1'\nport = 104\n[destinations.tls]\n"
    settings = settings_of(tmp_path, files, f"{place}ca = '{files.ca}'\ncheck_hostname = false\n")
    require_destination_certificates(settings)
    peer = destination_peer(settings, settings.destinations[0])
    assert peer.tls == TlsFiles(ca=files.ca, check_hostname=False)
    settings = settings_of(tmp_path, files, f"{place}ca = '{tmp_path}/gone.pem'\n")
    with pytest.raises(ConfigurationError, match=r"\[destinations\.tls\] of pacs: ca .*gone\.pem cannot be read"):
        require_destination_certificates(settings)


@pytest.mark.parametrize(
    ("days", "level", "seen"),
    [
        (365, "ok", "is valid until"),
        (10.5, "warning", "10 days from now"),
        (-1, "failed", "has expired on"),
        (None, "failed", "cannot be read: No such file"),
    ],
)
def test_doctor_says_until_when_certificates_are_good(
    tmp_path: Path, authority: Authority, days: float | None, level: str, seen: str
) -> None:
    files = authority.issue("listener", days=days or 1)
    place = "[[destinations]]\nname = 'pacs'\nae_title = 'PACS'\nhost = '127.0.0.1'\nport = 104\n[destinations.tls]\n"
    more = f"{place}certificate = '{files.certificate}'\nkey = '{files.key}'\n"
    settings = settings_of(tmp_path, files, more)
    if days is None:
        assert files.certificate
        files.certificate.unlink()
    listener, destination, rest = CHECKS["certificates"](Examined(settings, (), now))
    assert [listener.check, destination.check] == ["certificate listener", "certificate destination pacs"]
    for finding in (listener, destination):
        assert (finding.level, seen in finding.detail, bool(finding.remedy)) == (level, True, level != "ok")
    assert "DICOM" not in rest.detail
