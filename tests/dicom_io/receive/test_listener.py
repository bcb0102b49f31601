"""What the listener promises to conforming senders: echo, every radiograph as sent, one named status each."""

from __future__ import annotations

import hashlib
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import get_frame
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Listener, ListenerCannotBind, ListenerPortInUse, ListenerSettings, Received
from dicom_io.receive.store_request import is_allowed
from dicom_io.send.storage_scu import Outgoing, echo, send
from tests.dicom_io.images import INSTANCE, data_set_of, image_file, write
from tests.dicom_io.wire import NOON, Served, Witness, listening, store, wait_for_the_end_of_associations
from tests.peers.dcmtk import echoscu, storescu
from tests.peers.processes import wait_until
from tests.peers.radiographs import sample
from tests.peers.raw_dicom import associated, rejection

PIXELS = np.zeros((8, 8), np.uint16)
SC = SecondaryCaptureImageStorage


@pytest.mark.peer
def test_dcmtk_echoes_and_stores_and_the_bytes_are_those_sent() -> None:
    witness = Witness()
    with listening(witness) as listener:
        assert echoscu(listener.port).exit_code == 0
        answer = storescu(listener.port, [sample("RG1_UNCR"), sample("RG3_UNCR")])
        assert answer.statuses == (0, 0)
        wait_for_the_end_of_associations(listener)
    assert len({received.association_id for received in witness.received}) == 1
    for received, name in zip(witness.received, ("RG1_UNCR", "RG3_UNCR"), strict=True):
        assert (received.calling_ae, received.called_ae, received.address) == ("MODALITY", "CXRTRIAGE", "127.0.0.1")
        sent, arrived = dcmread(sample(name)), dcmread(BytesIO(received.data))
        assert all(element == sent[element.tag] for element in arrived)
        assert sorted({*sent.keys()} - {*arrived.keys()}) in ([], [0xFFFCFFFC])  # DCMTK leaves trailing padding out


@pytest.mark.peer
@pytest.mark.shared_data
def test_dcmtk_sends_every_compression_unchanged(shared_data: Path) -> None:
    witness = Witness()
    with listening(witness) as listener:
        for path in sorted((shared_data / "dicom").glob("wg04_RG3*.dcm")):
            syntax = {
                "J2KI": uid.JPEG2000, "J2KR": uid.JPEG2000Lossless, "JLSL": uid.JPEGLSLossless,
                "JLSN": uid.JPEGLSNearLossless, "JPLL": uid.JPEGLosslessSV1, "JPLY": uid.JPEGExtended12Bit,
                "RLE": uid.RLELossless,
            }[path.stem.rsplit("_", 1)[1]]  # fmt: skip
            assert storescu(listener.port, [path], transfer_syntax=syntax).statuses == (0,), path.name
            assert witness.received[-1].header.transfer_syntax_uid == syntax
            sent, received = dcmread(path).PixelData, dcmread(BytesIO(witness.received[-1].data)).PixelData
            assert get_frame(received, 0, number_of_frames=1) == get_frame(sent, 0, number_of_frames=1)
    assert len(witness.received) == 7


@pytest.mark.parametrize(
    "syntax",
    [
        *(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian),
        *(uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit),
        *(uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless),
        *(uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K),
    ],
)
def test_every_transfer_syntax_is_accepted_and_archived_byte_for_byte(served: Served, syntax: str) -> None:
    compressed = syntax not in {
        *(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian),
        uid.DeflatedExplicitVRLittleEndian,
    }
    file = image_file(b"frame " * 10, syntax, Rows=8, Columns=8) if compressed else image_file(PIXELS, syntax)
    witness, listener = served
    association = associated(listener.port, transfer_syntax=syntax)
    assert store(association, data_set_of(file), INSTANCE) == (Status.SUCCESS, "")
    association.release()
    assert witness.received[0].data.endswith(data_set_of(file))
    assert witness.received[0].header.transfer_syntax_uid == syntax


@pytest.mark.parametrize(
    "sop_class",
    [ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, DigitalXRayImageStorageForProcessing, SC],
)
def test_cr_dx_and_secondary_captures_are_accepted(served: Served, sop_class: str) -> None:
    association = associated(served[1].port, sop_class=sop_class)
    data_set = data_set_of(image_file(PIXELS, SOPClassUID=sop_class))
    assert store(association, data_set, INSTANCE, sop_class)[0] == Status.SUCCESS
    association.release()


def test_the_same_transfer_by_another_sender_gives_the_same_file() -> None:
    witness = Witness()
    with listening(witness) as listener:
        for calling in ("MODALITY", "PACS"):
            association = associated(listener.port, calling=calling)
            store(association, data_set_of(image_file(PIXELS)), INSTANCE)
            association.release()
    first, second = (hashlib.sha256(received.data).hexdigest() for received in witness.received)
    assert first == second


@pytest.mark.parametrize(
    "status", [Status.OUT_OF_RESOURCES, Status.COERCED, Status.NOT_AUTHORISED, Status.DUPLICATE_SOP_INSTANCE]
)
def test_the_status_is_the_one_that_storing_returned(status: Status) -> None:
    witness = Witness(answer=lambda _received: status)
    with listening(witness) as listener:
        association = associated(listener.port)
        assert store(association, data_set_of(image_file(PIXELS)), INSTANCE)[0] == status
        association.release()


def test_an_exception_while_storing_is_a_processing_failure_and_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_received: Received) -> Status:
        raise RuntimeError("INSERT ... 'Miller^Jane'")

    witness = Witness(answer=fail)
    with listening(witness) as listener:
        association = associated(listener.port)
        status, comment = store(association, data_set_of(image_file(PIXELS)), INSTANCE)
        assert (status, comment) == (Status.PROCESSING_FAILURE, "internal error: RuntimeError")
        assert store(association, data_set_of(image_file(PIXELS)), INSTANCE)[0] == Status.PROCESSING_FAILURE
        association.release()
    assert [rejection.status for rejection in witness.rejected] == [Status.PROCESSING_FAILURE] * 2
    assert "Miller" not in caplog.text


def test_an_association_that_breaks_off_no_longer_counts() -> None:
    with listening(Witness()) as listener:
        association = associated(listener.port)
        store(association, data_set_of(image_file(PIXELS)), INSTANCE)
        assert listener.associations == 1
        association.abort()
        wait_for_the_end_of_associations(listener)
        association = associated(listener.port)
        store(association, data_set_of(image_file(PIXELS)), INSTANCE)
        association.dul.socket.socket.close()
        association.kill()
        wait_for_the_end_of_associations(listener)


def test_a_stop_waits_for_an_object_that_is_being_stored_though_its_sender_is_gone() -> None:
    storing, may_finish, stored = threading.Event(), threading.Event(), threading.Event()

    def slow(_received: Received) -> Status:
        storing.set()
        may_finish.wait(60)
        stored.set()
        return Status.SUCCESS

    witness = Witness(answer=slow)
    with listening(witness) as listener:
        association = associated(listener.port)

        def send_in_vain() -> None:
            with pytest.raises(AssertionError, match="aborted instead of answering"):
                store(association, data_set_of(image_file(PIXELS)), INSTANCE)

        sender = threading.Thread(target=send_in_vain)
        sender.start()
        assert storing.wait(60)
        association.abort()
        sender.join(60)
        assert listener.associations == 1, "its thread still counts against the maximum"
        stopping = threading.Thread(target=listener.stop, args=(60,))
        stopping.start()
        wait_until(lambda: not listener.is_listening, 60, "the stop has begun")
        stopping.join(0.3)
        assert stopping.is_alive(), "it waits for the object"
        may_finish.set()
        stopping.join(60)
        assert stored.is_set()


@pytest.mark.parametrize(
    ("caller", "address", "allowed", "expected"),
    [
        ("CT1", "10.0.0.1", (), True),
        ("CT1", "10.0.0.1", ("CT1",), True),
        ("CT1", "10.0.0.1", ("CT2", "CT1@10.0.0.1"), True),
        ("CT1 ", "::ffff:10.0.0.1", ("CT1@10.0.0.1",), True),
        ("CT1", "10.0.0.9", ("CT1@10.0.0.1",), False),
        ("CT1", "10.0.0.1", ("CT2",), False),
        ("ct1", "10.0.0.1", ("CT1",), False),
        ("CT1", "fd00::1", ("CT1@fd00::1",), True),
        ("CT1", "fd00::1", ("CT1@FD00:0::1",), True),
        ("CT1", "10.0.0.9", ("CT1@10.0.0.0/24",), True),
        ("CT1", "10.0.1.9", ("CT1@10.0.0.0/24",), False),
        ("CT2", "10.0.0.9", ("CT1@10.0.0.0/24",), False),
        ("CT1", "::ffff:10.0.0.9", ("CT1@10.0.0.77/24",), True),
        ("CT1", "::FFFF:a00:9", ("CT1@10.0.0.0/24",), True),
        ("CT1", "10.0.0.9", ("CT1@::ffff:10.0.0.0/120",), True),
        ("CT1", "fe80::1%eth1", ("CT1@fe80::/10",), True),
        ("CT1", "fe80::1%eth1", ("CT1@fe80::1%eth0",), False),
        ("CT1", "fe80::1%eth0", ("CT1@fe80::1%eth0",), True),
        ("CT1", "10.0.0.1", ("CT1@ct1.hospital",), False),
        ("CT1", "", ("CT1@0.0.0.0/0",), False),
    ],
)
def test_allowed_callers_are_titles_or_titles_at_addresses(
    caller: str, address: str, allowed: tuple[str, ...], expected: bool
) -> None:
    assert is_allowed(caller, address, allowed) is expected


def test_a_caller_that_is_not_allowed_is_rejected_with_the_reason() -> None:
    witness = Witness()
    with listening(witness, allowed_callers=("PACS", "CT@10.9.8.7")) as listener:
        for calling in ("MODALITY", "CT"):
            association = associated(listener.port, calling=calling)
            assert rejection(association) == (1, 3)  # permanent, calling AE title not recognised
        echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port, calling_ae_title="PACS"))
    assert [(each.calling_ae, each.status) for each in witness.rejected] == [
        ("MODALITY", Status.NOT_AUTHORISED),
        ("CT", Status.NOT_AUTHORISED),
    ]
    assert all("allowed callers" in each.reason and each.when == NOON for each in witness.rejected)


def test_another_called_title_is_rejected() -> None:
    witness = Witness()
    with listening(witness) as listener, pytest.raises(PeerUnreachable, match="Called AE title not recognised"):
        echo(Peer("SOMEBODY", "127.0.0.1", listener.port))
    assert witness.rejected[0].status is Status.NOT_AUTHORISED


def test_too_many_associations_are_rejected_for_now_and_idle_sockets_do_not_count() -> None:
    import socket

    witness = Witness()
    with listening(witness, maximum_associations=2, association_timeout=600) as listener:
        idle = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(4)]
        open_ones = [associated(listener.port) for _ in range(2)]
        assert all(association.is_established for association in open_ones)
        third = associated(listener.port)
        assert rejection(third) == (2, 2)
        open_ones[0].release()
        wait_until(lambda: listener.associations == 1, 10, "the released association ended")
        assert associated(listener.port).is_established
        for connection in idle:
            connection.close()
    assert witness.rejected[0].status is Status.OUT_OF_RESOURCES


def test_a_port_in_use_is_said_so() -> None:
    with listening(Witness()) as listener:
        second = Listener(ListenerSettings(host="127.0.0.1", port=listener.port), Witness().handlers())
        with pytest.raises(ListenerPortInUse, match=f"port {listener.port} on 127.0.0.1 is in use"):
            second.start()
    elsewhere = Listener(ListenerSettings(host="192.0.2.1", port=0), Witness().handlers())
    with pytest.raises(ListenerCannotBind, match=r"192\.0\.2\.1"):
        elsewhere.start()


def test_a_stopped_listener_leaves_its_port_and_no_thread() -> None:
    witness = Witness()
    before = set(threading.enumerate())
    with listening(witness) as listener:
        port = listener.port
        association = associated(port)
    with listening(witness, port=port):
        pass
    association.join(60)
    assert [thread.name for thread in set(threading.enumerate()) - before if "DUL" not in thread.name] == []


def test_many_senders_at_once_are_all_answered(tmp_path: Path) -> None:
    witness = Witness()
    path = write(tmp_path, image_file(PIXELS))
    outcomes: list[str] = []
    with listening(witness) as listener:
        peer = Peer("CXRTRIAGE", "127.0.0.1", listener.port)

        def deliver() -> None:
            outcomes.extend(outcome.result for outcome in send(peer, [Outgoing(str(n), path) for n in range(3)]))

        threads = [threading.Thread(target=deliver) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        wait_for_the_end_of_associations(listener)
    assert outcomes == ["stored"] * 36
    assert len(witness.received) == 36
    assert len({received.association_id for received in witness.received}) == 12


def test_listener_knows_whether_it_listens() -> None:
    listener = Listener(ListenerSettings(host="127.0.0.1", port=0), Witness().handlers())
    assert not listener.is_listening
    listener.start()
    assert listener.is_listening
    listener.stop()
    assert not listener.is_listening
