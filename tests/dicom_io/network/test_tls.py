"""DICOM over TLS with DCMTK: authorised peers communicate, others are rejected quickly and recorded."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.network.status_codes import Status
from dicom_io.network.tls import TlsFiles, TlsProblem, calling_context, listening_context, read_certificate
from dicom_io.send.storage_scu import Outgoing, echo, send
from tests.dicom_io.images import data_set_of, image_file, write
from tests.dicom_io.wire import Witness, listening
from tests.peers.certificates import Authority, dcmtk_options
from tests.peers.dcmtk import Storescp, echoscu, storescu
from tests.peers.processes import wait_until
from tests.peers.radiographs import sample

ANYBODY = ["+tla", "-ic"]  # DCMTK: show no certificate, believe any


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def unknown_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("elsewhere"), "Somebody else's CA")


def peer_of(port: int, tls: TlsFiles | None) -> Peer:
    return Peer("CXRTRIAGE", "127.0.0.1", port, calling_ae_title="PACS", tls=tls)


@pytest.mark.peer
def test_dcmtk_with_a_certificate_of_the_authority_sends_as_in_plain(authority: Authority) -> None:
    witness = Witness()
    with listening(witness, tls=authority.issue("listener")) as listener:
        options = dcmtk_options(authority.issue("modality"))
        assert storescu(listener.port, [sample("RG1_UNCR"), sample("RG3_UNCR")], tls=options).statuses == (0, 0)
    assert len(witness.received) == 2
    assert witness.rejected == []


@pytest.mark.peer
def test_unauthorised_peers_are_rejected_quickly_and_recorded_while_others_are_served(
    authority: Authority, unknown_authority: Authority
) -> None:
    expired, foreign = authority.issue("late", days=-1), replace(unknown_authority.issue("foreign"), ca=authority.ca)
    good = authority.issue("modality")
    cases = [
        (["+tla", "+cf", str(authority.ca)], "presented no client certificate"),
        (dcmtk_options(foreign), "certificate is not accepted: unable to get local issuer certificate"),
        (dcmtk_options(expired), "certificate is not accepted: certificate has expired"),
        (
            ["+tls", str(good.key), str(good.certificate), "+cf", str(unknown_authority.ca)],
            "does not trust the issuer of our",
        ),
        ([], "the peer does not use TLS"),
    ]
    witness = Witness()
    with listening(witness, tls=authority.issue("listener"), association_timeout=600) as listener:
        for number, (options, reason) in enumerate(cases, 1):
            answer = storescu(listener.port, [sample("RG3_UNCR")], tls=options)
            assert (answer.exit_code != 0, answer.acknowledged) == (True, 0), reason
            wait_until(lambda n=number: len(witness.rejected) == n, 60, reason)  # type: ignore[misc]
            rejection = witness.rejected[-1]
            assert reason in rejection.reason
            assert (rejection.status, rejection.address) == (Status.NOT_AUTHORISED, "127.0.0.1")
            echo(peer_of(listener.port, good))
    assert witness.received == []


@pytest.mark.peer
def test_tls_on_the_plain_port_is_rejected_quickly_and_recorded(authority: Authority) -> None:
    witness = Witness()
    with listening(witness, association_timeout=600) as listener:
        answer = storescu(listener.port, [sample("RG3_UNCR")], tls=dcmtk_options(authority.issue("modality")))
        assert answer.exit_code != 0
        assert "this port is plain" in witness.rejected[0].reason
        with pytest.raises(PeerUnreachable, match="closed the connection during the TLS handshake"):
            echo(peer_of(listener.port, authority.issue("pacs")))
        echo(peer_of(listener.port, None))


@pytest.mark.peer
def test_without_the_need_of_a_client_certificate_anybody_is_encrypted(authority: Authority) -> None:
    witness = Witness()
    with listening(witness, tls=replace(authority.issue("listener"), ca=None, require_client_certificate=False)) as one:
        assert storescu(one.port, [sample("RG3_UNCR")], tls=ANYBODY).statuses == (0,)
        assert echoscu(one.port).exit_code != 0


@pytest.mark.peer
def test_renewed_files_are_shown_and_believed_without_a_restart_and_unusable_ones_are_not(
    unknown_authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hospital, next_one = Authority(tmp_path / "first"), Authority(tmp_path / "next", "The hospital's next CA")
    shown = hospital.issue("listener")
    old, new = dcmtk_options(hospital.issue("modality")), dcmtk_options(next_one.issue("modality"))

    def put(files: TlsFiles, *kinds: str) -> None:
        for kind in kinds:  # as renewers do: written beside it, and moved into its place
            target, fresh = getattr(shown, kind), tmp_path / "fresh.pem"
            fresh.write_bytes(getattr(files, kind).read_bytes())
            fresh.replace(target)

    with listening(Witness(), tls=shown) as listener:
        assert (echoscu(listener.port, tls=old).exit_code, echoscu(listener.port, tls=new).exit_code != 0) == (0, True)
        renewed = next_one.issue("listener")
        put(renewed, "certificate")  # not its key yet
        assert echoscu(listener.port, tls=old).exit_code == 0
        assert echoscu(listener.port, tls=old).exit_code == 0
        logged = [each.getMessage() for each in caplog.records if "cannot be used" in each.getMessage()]
        assert len(logged) == 1, "logged once"
        assert f"key {shown.key} does not belong to certificate" in logged[0]
        put(renewed, "key", "ca")
        assert (echoscu(listener.port, tls=new).exit_code, echoscu(listener.port, tls=old).exit_code != 0) == (0, True)
        assert shown.ca is not None
        shown.ca.unlink()
        assert echoscu(listener.port, tls=new).exit_code == 0, "the former stay in use"
        assert any(f"ca {shown.ca} cannot be read" in each.getMessage() for each in caplog.records)


@pytest.mark.peer
def test_we_send_to_dcmtk_over_tls(authority: Authority, tmp_path: Path) -> None:
    ours = authority.issue("cxr-triage")
    with Storescp(tmp_path / "received", tls=dcmtk_options(authority.issue("pacs"))) as scp:
        peer = replace(peer_of(scp.port, ours), ae_title="STORESCP")
        echo(peer)
        files = [Outgoing(name, sample(name)) for name in ("RG1_UNCR", "RG3_J2KR")]
        assert [outcome.result for outcome in send(peer, files)] == ["stored", "stored"]
        with pytest.raises(PeerUnreachable, match="requires a client certificate"):
            echo(replace(peer, tls=TlsFiles(ca=authority.ca)))
        with pytest.raises(PeerUnreachable, match="no connection, or no answer"):
            echo(replace(peer, tls=None, association_timeout=2.0))
    assert len(list((tmp_path / "received").iterdir())) == 2


def test_we_believe_no_peer_that_we_should_not(authority: Authority, unknown_authority: Authority) -> None:
    ours = authority.issue("cxr-triage")
    for theirs, reason in (
        (unknown_authority.issue("pacs"), "unable to get local issuer certificate"),
        (authority.issue("late", days=-1), "certificate has expired"),
        (authority.issue("elsewhere", host="192.0.2.1"), "IP address mismatch"),
    ):
        anybody = replace(theirs, ca=None, require_client_certificate=False)
        with listening(Witness(), tls=anybody) as listener:
            with pytest.raises(PeerUnreachable, match=f"not accepted: .*{reason}"):
                echo(peer_of(listener.port, ours))
            if "mismatch" in reason:
                echo(peer_of(listener.port, replace(ours, check_hostname=False)))


def test_many_objects_and_large_ones_pass_over_tls_unchanged(authority: Authority, tmp_path: Path) -> None:
    witness = Witness()
    rows = np.random.default_rng(1).integers(0, 4096, (1800, 1900), dtype=np.uint16)
    paths = [write(tmp_path, image_file(rows[:side, :side]), str(side)) for side in (8, 1000, 1800)]
    with listening(witness, tls=authority.issue("listener")) as listener:
        outcomes = list(send(peer_of(listener.port, authority.issue("pacs")), [Outgoing(p.name, p) for p in paths]))
    assert {outcome.result for outcome in outcomes} == {"stored"}
    sent = [data_set_of(path.read_bytes()) for path in paths]
    assert [data_set_of(received.data) for received in witness.received] == sent


def test_nothing_older_than_tls_1_2_and_no_weak_cipher(authority: Authority) -> None:
    listening_side = listening_context(authority.issue("listener"))
    for context in (listening_side, calling_context(authority.issue("pacs"))):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        names = [cipher["name"] for cipher in context.get_ciphers()]
        assert names
        assert all(name.startswith(("ECDHE-", "TLS_")) and ("GCM" in name or "CHACHA20" in name) for name in names)
    assert listening_side.verify_mode is ssl.CERT_REQUIRED


def test_files_that_cannot_be_used_are_named_with_what_is_wrong(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("listener"), authority.issue("other")
    text = tmp_path / "letter.pem"
    text.write_text("Dear colleague,", encoding="utf-8")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(_encrypted_key())
    for files, reason in (
        (replace(good, certificate=tmp_path / "gone.pem"), r"certificate .*gone\.pem cannot be read: No such file"),
        (replace(good, key=other.key), r"key .*other\.key does not belong to certificate .*listener\.pem"),
        (replace(good, key=None), "both a certificate and its key"),
        (replace(good, certificate=text), r"letter\.pem and key .* cannot be used"),
        (replace(good, ca=text), r"ca .*letter\.pem cannot be used"),
        (replace(good, ca=None), "no authority"),
        (replace(good, key=encrypted), "is encrypted"),
        (replace(good, key=tmp_path), "Is a directory"),
    ):
        with pytest.raises(TlsProblem, match=reason):
            listening_context(files)
    with pytest.raises(TlsProblem, match="no PEM certificate"):
        read_certificate(text)


def test_a_key_that_may_not_be_read_is_named(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    files = authority.issue("secret")

    def refuse(_path: Path, *_mode: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, who may read everything
    with pytest.raises(TlsProblem, match="may not be read by this user: change its owner or mode"):
        listening_context(files)


def _encrypted_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
