"""Sending: one association, files as they are, an outcome for each, and no wait without an end."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.network.status_codes import Status
from dicom_io.send.storage_scu import Outgoing, SendOutcome, echo, send
from tests.dicom_io.images import CR, data_set_of, image_file, item, raw_file, sequence, write
from tests.dicom_io.wire import Served, Witness, listening, wait_for_the_end_of_associations
from tests.peers.dcmtk import Storescp
from tests.peers.radiographs import sample

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)
CT = CTImageStorage


def peer_of(port: int, **timeouts: float) -> Peer:
    return Peer("CXRTRIAGE", "127.0.0.1", port, **timeouts)


def outgoing(*paths: Path) -> list[Outgoing]:
    return [Outgoing(f"{number}:{path.name}", path) for number, path in enumerate(paths)]


def test_files_go_over_one_association_byte_for_byte(tmp_path: Path, served: Served) -> None:
    witness, listener = served
    files = [sample("RG1_J2KR"), sample("RG3_UNCR"), write(tmp_path, image_file(PIXELS, uid.ExplicitVRBigEndian))]
    outcomes = list(send(peer_of(listener.port), outgoing(*files)))
    assert [(outcome.result, outcome.status) for outcome in outcomes] == [("stored", 0)] * 3
    assert [outcome.key for outcome in outcomes] == ["0:RG1_J2KR.dcm", "1:RG3_UNCR.dcm", "2:image.dcm"]
    assert len({received.association_id for received in witness.received}) == 1
    for received, file in zip(witness.received, files, strict=True):
        content = file.read_bytes()
        assert data_set_of(received.data) == data_set_of(content)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (Status.SUCCESS, "stored"),
        (Status.COERCED, "stored"),
        (Status.OUT_OF_RESOURCES, "retry"),
        (Status.DATA_SET_MISMATCH, "permanent"),
        (Status.CANNOT_UNDERSTAND, "permanent"),
    ],
)
def test_each_answer_becomes_its_outcome(served: Served, status: Status, result: str) -> None:
    witness, listener = served
    witness.answer = lambda _received: status
    try:
        outcome = next(send(peer_of(listener.port), outgoing(sample("RG3_J2KR"))))
    finally:
        witness.answer = lambda _received: Status.SUCCESS
    assert (outcome.result, outcome.status) == (result, status)
    assert f"0x{status:04X}" in outcome.reason


def test_one_bad_file_among_good_ones_is_permanent_and_stops_nothing(tmp_path: Path, served: Served) -> None:
    text = write(tmp_path, b"a letter about Mrs Miller", "letter")
    no_uid = write(tmp_path, image_file(PIXELS, SOPInstanceUID="../../x"), "path")
    ct = write(tmp_path, image_file(PIXELS, SOPClassUID=CT), "ct")
    good = write(tmp_path, image_file(PIXELS), "good")
    outcomes = {
        outcome.key[2:]: outcome
        for outcome in send(peer_of(served[1].port), outgoing(text, tmp_path / "gone", no_uid, ct, good))
    }
    assert {key: outcome.result for key, outcome in outcomes.items()} == {
        "letter": "permanent",
        "gone": "retry",
        "path": "permanent",
        "ct": "permanent",
        "good": "stored",
    }
    assert "does not accept CT Image Storage in Explicit VR Little Endian" in outcomes["ct"].reason
    assert "No such file" in outcomes["gone"].reason
    assert "Miller" not in outcomes["letter"].reason


def test_nothing_to_send_asks_for_no_association(tmp_path: Path) -> None:
    assert list(send(peer_of(1), [])) == []
    assert [outcome.result for outcome in send(peer_of(1), outgoing(tmp_path / "gone"))] == ["retry"]


def test_a_peer_that_takes_nothing_of_ours_is_permanent(tmp_path: Path, served: Served) -> None:
    only = outgoing(write(tmp_path, image_file(PIXELS, SOPClassUID=CT)))
    outcomes = list(send(peer_of(served[1].port), only))
    assert [outcome.result for outcome in outcomes] == ["permanent"]
    assert "none of the proposed presentation contexts" in outcomes[0].reason


def test_an_uncompressed_file_is_reencoded_for_a_peer_of_one_syntax_and_files_without_meta_are_sent(
    tmp_path: Path,
) -> None:
    stored: list[bytes] = []
    old = AE(ae_title="OLD")
    old.supported_contexts = [build_context(CR, uid.ImplicitVRLittleEndian)]
    handlers = [(evt.EVT_C_STORE, lambda event: stored.append(event.encoded_dataset()) or 0x0000)]
    server = old.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        plain = write(tmp_path, image_file(PIXELS, PatientName="A^B"), "explicit")
        bare = write(tmp_path, data_set_of(image_file(PIXELS, uid.ImplicitVRLittleEndian, PatientName="A^B")), "bare")
        packed = sample("RG3_J2KR")
        peer = Peer("OLD", "127.0.0.1", server.server_address[1])
        outcomes = [outcome.result for outcome in send(peer, outgoing(plain, bare, packed))]
    finally:
        server.shutdown()
    assert outcomes == ["stored", "stored", "permanent"]
    for content in stored:
        arrived = dcmread(BytesIO(content))
        assert arrived.file_meta.TransferSyntaxUID == uid.ImplicitVRLittleEndian
        assert arrived.PatientName == "A^B"
        assert np.array_equal(arrived.pixel_array, PIXELS)


@pytest.mark.parametrize(
    ("terms", "name"),
    [("ISO_IR 192", b"J\xf6rg"), ("", b"\xcd\xf5^\xd0\xa1"), ("KLINGON", b"J\xf6rg"), ("GBK", b"\xd5\x5c^B")],
)
def test_texts_of_a_reencoded_file_keep_their_bytes(tmp_path: Path, terms: str, name: bytes) -> None:
    """Those that cannot be decoded too, also within a sequence."""
    arrived: list[Dataset] = []

    def on_store(event: evt.Event) -> int:
        arrived.append(event.dataset)
        return Status.SUCCESS

    old = AE("OLD")
    old.supported_contexts = [build_context(CR, uid.ImplicitVRLittleEndian)]
    plain = raw_file(SpecificCharacterSet=terms.encode(), PatientName=name, PatientID=name)
    stand_in = "Q" * len(name)  # pydicom would not write the name
    ids = sequence(item(PatientID=stand_in))
    nested = image_file(PIXELS, SpecificCharacterSet=terms, OtherPatientIDsSequence=ids)
    nested = nested.replace(stand_in.encode(), name)
    server = old.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        peer = Peer("OLD", "127.0.0.1", server.server_address[1])
        files = (write(tmp_path, plain, "plain"), write(tmp_path, nested, "nested"))
        assert [outcome.result for outcome in send(peer, outgoing(*files))] == ["stored", "stored"]
    finally:
        server.shutdown()
    first, second = arrived
    inner = second.OtherPatientIDsSequence[0]
    for holder, keyword in ((first, "PatientName"), (first, "PatientID"), (inner, "PatientID")):
        assert holder.get_item(keyword).value.rstrip(b" ") == name


def test_what_was_not_answered_when_the_association_broke_is_to_be_retried(tmp_path: Path) -> None:
    witness = Witness()
    with listening(witness) as listener:
        steps = send(peer_of(listener.port), outgoing(*[write(tmp_path, image_file(PIXELS))] * 3))
        assert next(steps).result == "stored"
        listener.stop()
        rest = list(steps)
    assert [outcome.result for outcome in rest] == ["retry", "retry"]
    assert all("lost" in outcome.reason or "closed the connection" in outcome.reason for outcome in rest)


def test_leaving_off_half_way_releases_the_association(tmp_path: Path) -> None:
    witness = Witness()
    with listening(witness) as listener:
        steps = send(peer_of(listener.port), outgoing(*[write(tmp_path, image_file(PIXELS))] * 3))
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        wait_for_the_end_of_associations(listener)
    assert len(witness.received) == 1


def test_a_peer_that_answers_nothing_is_given_up_on_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = peer_of(silent.getsockname()[1], association_timeout=0.3, response_timeout=0.3)
        with pytest.raises(PeerUnreachable, match="no connection, or no answer"):
            echo(peer)
        with pytest.raises(PeerUnreachable, match="no connection, or no answer"):
            list(send(peer, outgoing(write(tmp_path, image_file(PIXELS)))))


def test_a_peer_that_accepts_and_then_stalls_is_a_retry_in_time(tmp_path: Path) -> None:
    given_up = threading.Event()
    witness = Witness(answer=lambda _received: Status.SUCCESS if given_up.wait(60) else Status.PROCESSING_FAILURE)
    with listening(witness) as listener:
        outcomes = list(
            send(peer_of(listener.port, response_timeout=0.4), outgoing(*[write(tmp_path, image_file(PIXELS))] * 2))
        )
        given_up.set()
    assert [(outcome.result, outcome.status) for outcome in outcomes] == [("retry", None), ("retry", None)]


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (Peer("X", "127.0.0.1", 1), "X at 127.0.0.1 port 1 cannot be reached"),
        (Peer("X", "no-such-host.invalid", 104), "X at no-such-host.invalid port 104 cannot be reached"),
        (Peer("X", "pacs..example.org", 104), "its host is neither a name nor an address"),
    ],
)
def test_an_unreachable_peer_is_named(peer: Peer, reason: str) -> None:
    with pytest.raises(PeerUnreachable, match=reason):
        echo(peer)


def test_no_socket_is_left_open_where_nobody_listens() -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(PeerUnreachable):
            echo(Peer("X", "127.0.0.1", 1))
    assert left_open == []


@pytest.mark.peer
def test_dcmtk_receives_what_we_send(tmp_path: Path) -> None:
    with Storescp(tmp_path / "received") as scp:
        peer = Peer("STORESCP", "127.0.0.1", scp.port)
        echo(peer)
        outcomes: list[SendOutcome] = list(send(peer, outgoing(sample("RG1_UNCR"), sample("RG1_J2KR"))))
    assert [outcome.result for outcome in outcomes] == ["stored", "stored"]
    assert len(list((tmp_path / "received").iterdir())) == 2
