"""Senders that violate the protocol: each gets its stated answer, no thread ends, and the next sender is served."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.uid import DigitalXRayImageStorageForPresentation

from dicom_io.network.association import Peer
from dicom_io.network.status_codes import Status
from dicom_io.send.storage_scu import echo
from tests.dicom_io.images import CR, INSTANCE, data_set_of, dicom_file, image_file, write
from tests.dicom_io.wire import Served, Witness, listening, store, wait_for_the_end_of_associations
from tests.peers.dcmtk import storescu
from tests.peers.raw_dicom import associated

GOOD = data_set_of(image_file(np.zeros((8, 8), np.uint16), PatientName="Miller^Jane", PatientID="ID-4711"))
DX = DigitalXRayImageStorageForPresentation

LONG = "1.2." + "3" * 61  # 65 characters

# name, command's instance UID, data set -> status, words of the error comment
STORES = [
    ("a path for a UID", "../../x", GOOD, Status.CANNOT_UNDERSTAND, "not a UID"),
    (
        "a path in the data set",
        INSTANCE,
        data_set_of(dicom_file(SOPInstanceUID="../../x")),
        Status.CANNOT_UNDERSTAND,
        "SOP Instance UID is not a UID",
    ),
    (
        "a path for the study",
        INSTANCE,
        data_set_of(dicom_file(StudyInstanceUID="/etc/passwd")),
        Status.CANNOT_UNDERSTAND,
        "Study Instance UID is not a UID",
    ),
    (
        "no study",
        INSTANCE,
        data_set_of(dicom_file(StudyInstanceUID=None)),
        Status.CANNOT_UNDERSTAND,
        "Study Instance UID is missing",
    ),
    (
        "no series",
        INSTANCE,
        data_set_of(dicom_file(SeriesInstanceUID="")),
        Status.CANNOT_UNDERSTAND,
        "Series Instance UID is missing",
    ),
    ("a long UID in the command", LONG, GOOD, Status.CANNOT_UNDERSTAND, "Affected SOP Instance UID is not a UID"),
    (
        "a long UID in command and data set",
        LONG,
        data_set_of(dicom_file(SOPInstanceUID=LONG)),
        Status.CANNOT_UNDERSTAND,
        "Affected SOP Instance UID is not a UID",
    ),
    (
        "a long UID in the data set",
        LONG[:64],
        data_set_of(dicom_file(SOPInstanceUID=LONG)),
        Status.CANNOT_UNDERSTAND,
        "SOP Instance UID has 65 characters, over 64",
    ),
    (
        "a long study UID",
        INSTANCE,
        data_set_of(dicom_file(StudyInstanceUID=LONG)),
        Status.CANNOT_UNDERSTAND,
        "Study Instance UID has 65 characters, over 64",
    ),
    (
        "a long series UID",
        INSTANCE,
        data_set_of(dicom_file(SeriesInstanceUID=LONG)),
        Status.CANNOT_UNDERSTAND,
        "Series Instance UID has 65 characters, over 64",
    ),
    *(
        (f"a UID {uid!r}", uid, data_set_of(dicom_file(SOPInstanceUID=uid)), Status.CANNOT_UNDERSTAND, "is not a UID")
        for uid in ("1..2", ".1.2", "1.2.", "1.2.A", "1.2 3", "1", "1.2.\xb3")
    ),
    ("truncated pixels", INSTANCE, GOOD[:-50], Status.CANNOT_UNDERSTAND, "(7FE0,0010) has 78 of 128 bytes"),
    ("truncated header", INSTANCE, GOOD[:100], Status.CANNOT_UNDERSTAND, "truncated"),
    ("a text file", INSTANCE, b"Dear colleague, Mrs Miller is well. ", Status.CANNOT_UNDERSTAND, "truncated"),
    ("zeros", INSTANCE, bytes(2000), Status.CANNOT_UNDERSTAND, ""),
    ("a file with its preamble", INSTANCE, image_file(np.zeros((8, 8), np.uint16)), Status.CANNOT_UNDERSTAND, ""),
    ("another instance", "1.2.3.999", GOOD, Status.DATA_SET_MISMATCH, "SOP Instance UID differs"),
    (
        "another class",
        INSTANCE,
        data_set_of(dicom_file(SOPClassUID=DX)),
        Status.DATA_SET_MISMATCH,
        "SOP Class UID differs",
    ),
    ("no class", INSTANCE, data_set_of(dicom_file(SOPClassUID=None)), Status.CANNOT_UNDERSTAND, "SOPClassUID"),
]


@pytest.mark.parametrize(("name", "instance", "data_set", "status", "comment"), STORES, ids=[row[0] for row in STORES])
def test_a_bad_object_gets_its_status_and_a_reason_without_patient_data(
    served: Served,
    name: str,
    instance: str,
    data_set: bytes,
    status: Status,
    comment: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    witness, listener = served
    association = associated(listener.port)
    answered, said = store(association, data_set, instance)
    assert (answered, comment in said) == (status, True), (name, said)
    # the association goes on, and so does the listener
    assert store(association, GOOD, INSTANCE)[0] == Status.SUCCESS
    association.release()
    assert len(witness.received) == 1
    rejection = witness.rejected[0]
    assert (rejection.status, rejection.calling_ae, rejection.address) == (status, "MODALITY", "127.0.0.1")
    assert said == rejection.reason[:64]
    assert not any(secret in f"{rejection}{caplog.text}" for secret in ("Miller", "4711"))
    assert not any(path in str(rejection) for path in ("passwd", "../"))


def test_a_class_other_than_the_contexts_is_a_mismatch() -> None:
    witness = Witness()
    with listening(witness) as listener:
        association = associated(listener.port)
        data_set = data_set_of(dicom_file(SOPClassUID=DX))
        status, said = store(association, data_set, INSTANCE, sop_class_uid=DX)
        assert (status, said) == (Status.DATA_SET_MISMATCH, "SOP Class UID is not the presentation context's")
        association.release()


@pytest.mark.peer
def test_dcmtk_goes_on_after_objects_with_long_uids(served: Served, tmp_path: Path) -> None:
    witness, listener = served
    changes = ({}, {"SOPInstanceUID": LONG}, {"StudyInstanceUID": LONG}, {"SeriesInstanceUID": LONG}, {})
    files = [write(tmp_path, dicom_file(**each), f"{number}.dcm") for number, each in enumerate(changes)]
    refused = Status.CANNOT_UNDERSTAND
    assert storescu(listener.port, files).statuses == (Status.SUCCESS, refused, refused, refused, Status.SUCCESS)
    assert len(witness.received) == 2


@pytest.mark.parametrize("sop_class", [LONG, "1.2.3", "1.2.840.10008.1.1"], ids=["long", "unknown", "verification"])
def test_a_class_that_is_none_of_storage_is_a_mismatch_and_the_association_goes_on(
    served: Served, sop_class: str
) -> None:
    witness, listener = served
    association = associated(listener.port)
    status, said = store(association, GOOD, INSTANCE, sop_class_uid=sop_class)
    assert (status, said) == (Status.DATA_SET_MISMATCH, "SOP Class UID is not the presentation context's")
    assert store(association, GOOD, INSTANCE)[0] == Status.SUCCESS
    association.release()
    assert len(witness.rejected) == 1


@pytest.mark.parametrize("uid", ["1.2.03.004", "1.2.3\0", "1.2.3 "], ids=["leading zeros", "null", "space"])
def test_uids_that_many_senders_write_are_taken(served: Served, uid: str) -> None:
    witness, listener = served
    association = associated(listener.port)
    data_set = data_set_of(dicom_file(SOPInstanceUID=uid, StudyInstanceUID=uid))
    assert store(association, data_set, uid)[0] == Status.SUCCESS
    association.release()
    assert witness.received[0].header.sop_instance_uid == uid.strip("\0 ")


def test_a_truncated_compressed_object_is_not_acknowledged() -> None:
    file = image_file(b"\xff\xd8" + b"x" * 998, uid.JPEGLosslessSV1, Rows=8, Columns=8)
    with listening(Witness()) as listener:
        association = associated(listener.port, transfer_syntax=uid.JPEGLosslessSV1)
        assert store(association, data_set_of(file)[:-300], INSTANCE)[0] == Status.CANNOT_UNDERSTAND
        association.release()


def test_an_object_without_pixels_is_understood_and_left_to_the_gate() -> None:
    witness = Witness()
    with listening(witness) as listener:
        association = associated(listener.port)
        assert store(association, data_set_of(dicom_file()), INSTANCE)[0] == Status.SUCCESS
        association.release()
    assert not witness.received[0].header.has_pixels


ASSOCIATE_HEADER = b"\x01\x00\x00\x00\x00\x04"
PDUS = [
    ("four bytes and silence", b"\x01\x00\x00\x00"),
    ("a PDU of four bytes", ASSOCIATE_HEADER + b"abcd"),
    ("a PDU that claims 4 GiB", b"\x04\x00\xff\xff\xff\xff" + b"x" * 100),
    ("a request that claims 4 GiB", b"\x01\x00\xff\xff\xff\xff" + b"x" * 100),
    ("a PDU of no kind", b"\x99\x00\x00\x00\x00\x04abcd"),
    ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
    ("data before an association", b"\x04\x00\x00\x00\x00\x0a\x00\x00\x00\x06\x01\x02abcd"),
    ("a release before an association", b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"),
    ("nothing at all", b""),
    ("noise", bytes(range(256)) * 8),
]


@pytest.mark.parametrize(("name", "pdu"), PDUS, ids=[row[0] for row in PDUS])
def test_bytes_that_are_no_dicom_block_nobody_and_are_disconnected(name: str, pdu: bytes) -> None:
    witness = Witness()
    with (
        listening(witness, pdu_timeout=2, association_timeout=2) as listener,
        socket.create_connection(("127.0.0.1", listener.port), timeout=60) as connection,
    ):
        connection.sendall(pdu)
        echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port))  # while the other is still connected
        received = b""
        try:
            while more := connection.recv(4096):  # an A-ABORT perhaps, then the end
                received += more
        except ConnectionResetError:
            pass
        assert received[:1] in {b"", b"\x07"}, name
    assert witness.received == []


def test_an_association_that_stalls_in_the_middle_of_an_object_is_ended() -> None:
    witness = Witness()
    with listening(witness, pdu_timeout=2, idle_timeout=2) as listener:
        association = associated(listener.port)
        association.dul.socket.socket.sendall(b"\x04\x00\x00\x00\x10\x00" + b"half a PDU")
        wait_for_the_end_of_associations(listener)
        echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port))
    assert association.requestor.requested_contexts[0].abstract_syntax == CR


def test_a_stop_waits_neither_for_a_stalled_sender_nor_for_an_idle_one() -> None:
    witness = Witness()
    with listening(witness, association_timeout=600, pdu_timeout=600, idle_timeout=600) as listener:
        stalled = associated(listener.port)
        stalled.dul.socket.socket.sendall(b"\x04\x00\x00\x00\x10\x00" + b"half a PDU")
        idle = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(2)]
        idle[1].sendall(b"\x01\x00")
        echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port))
        listener.stop()
    for connection in idle:
        connection.close()


def test_an_object_larger_than_allowed_is_disconnected_and_many_small_ones_are_not() -> None:
    witness = Witness()
    with listening(witness, maximum_object=20_000) as listener:
        association = associated(listener.port)
        for _ in range(40):
            assert store(association, GOOD, INSTANCE)[0] == Status.SUCCESS
        large = data_set_of(image_file(np.zeros((200, 200), np.uint16)))
        with pytest.raises(AssertionError, match="aborted instead of answering"):
            store(association, large, INSTANCE)
        wait_for_the_end_of_associations(listener)
        echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port))
    assert len(witness.received) == 40
