"""A file that comes by any way is examined as if it had come over C-STORE, and archived as the same bytes."""

from __future__ import annotations

import random
import re
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from dicom_io.network.status_codes import Status
from dicom_io.receive.part10_files import claimed_uids, examine_file
from dicom_io.receive.store_request import StoreRejected, StoreRequest, examine
from tests.peers.radiographs import chest

ROWS_LEFT = 1024 * 960 * 2  # more than the pixels need: what follows them reads as padding


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chest(tmp_path_factory.mktemp("radiograph"), 1).path


def saved(radiograph: Path, **changes: object) -> bytes:
    dataset = dcmread(radiograph)
    for keyword, value in changes.items():
        target = dataset.file_meta if keyword.startswith(("Media", "Transfer")) else dataset
        setattr(target, keyword, value)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


def test_file_is_archived_as_the_same_bytes_as_its_data_set_over_dimse(radiograph: Path) -> None:
    data = radiograph.read_bytes()
    header = dcmread(radiograph, stop_before_pixels=True)
    start = data.index(b"\x08\x00\x05\x00CS")
    over_dimse = examine(
        StoreRequest(
            str(header.SOPClassUID),
            str(header.SOPInstanceUID),
            str(header.SOPClassUID),
            str(header.file_meta.TransferSyntaxUID),
            data[start:],
        )
    )
    assert examine_file(data) == over_dimse
    assert claimed_uids(data) == (str(header.SOPClassUID), str(header.SOPInstanceUID))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_are_taken_apart_where_the_data_set_begins(radiograph: Path, syntax: str) -> None:
    data = saved(radiograph, TransferSyntaxUID=syntax)
    archived, header = examine_file(data)
    assert header.transfer_syntax_uid == syntax
    assert dcmread(BytesIO(archived)).PixelData == dcmread(radiograph).PixelData


def test_old_file_without_preamble_and_meta_is_what_its_data_set_says(radiograph: Path) -> None:
    data = radiograph.read_bytes()
    archived, header = examine_file(data[data.index(b"\x08\x00\x05\x00CS") :])
    assert header.sop_instance_uid == str(dcmread(radiograph, stop_before_pixels=True).SOPInstanceUID)
    assert archived[128:132] == b"DICM"


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"MediaStorageSOPClassUID": CTImageStorage}, Status.SOP_CLASS_NOT_SUPPORTED, "is not accepted"),
        ({"MediaStorageSOPClassUID": SecondaryCaptureImageStorage}, Status.DATA_SET_MISMATCH, "SOP Class UID differs"),
        ({"MediaStorageSOPInstanceUID": "1.2.3"}, Status.DATA_SET_MISMATCH, "SOP Instance UID differs"),
        ({"MediaStorageSOPInstanceUID": "../x"}, Status.CANNOT_UNDERSTAND, "not a UID"),
        ({"StudyInstanceUID": ""}, Status.CANNOT_UNDERSTAND, "Study Instance UID is missing"),
    ],
)
def test_what_the_listener_would_refuse_is_refused(
    radiograph: Path, changes: dict[str, object], status: Status, words: str
) -> None:
    with pytest.raises(StoreRejected, match=words) as refused:
        examine_file(saved(radiograph, **changes))
    assert refused.value.status == status


def test_transfer_syntax_that_the_listener_does_not_accept_is_refused_by_its_own_status(radiograph: Path) -> None:
    data = radiograph.read_bytes().replace(b"1.2.840.10008.1.2.1\0", MPEG2MPML.encode()[:19] + b"\0", 1)
    with pytest.raises(StoreRejected) as refused:
        examine_file(data)
    assert refused.value.status == Status.TRANSFER_SYNTAX_NOT_SUPPORTED


@pytest.mark.parametrize("data", [b"", b"hello", bytes(200), b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(128) + b"DICM"])
def test_what_is_no_dicom_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(StoreRejected) as refused:
        examine_file(data)
    assert refused.value.status == Status.CANNOT_UNDERSTAND
    assert refused.value.reason
    assert claimed_uids(data) == ("", "")


def test_file_cut_off_anywhere_is_refused(radiograph: Path) -> None:
    data = radiograph.read_bytes()
    for end in [*range(0, 1200, 37), len(data) - 1]:
        with pytest.raises(StoreRejected):
            examine_file(data[:end])


@pytest.mark.parametrize("seed", range(110))
def test_damaged_file_is_taken_whole_or_refused_with_a_reason(radiograph: Path, seed: int) -> None:
    chance, data = random.Random(seed), bytearray(radiograph.read_bytes()[:6000])
    data += bytes(ROWS_LEFT)
    for _ in range(chance.randint(1, 12)):
        data[chance.randrange(3000)] = chance.randrange(256)
    try:
        archived, header = examine_file(bytes(data))
    except StoreRejected as refused:
        assert refused.reason
    else:
        assert archived[128:132] == b"DICM"
        assert header.sop_instance_uid
    claimed_uids(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        bytes(1 << 24),
        bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x00\x00" * (1 << 20),
        bytes(128) + b"DICM" + b"\x08\x00\x05\x00\x00\x00\x00\x00" * (1 << 20),
        b"\x08\x00\x05\x00CS\x00\x00" * (1 << 21),
    ],
    ids=["zeros", "endless meta", "empty elements", "empty elements of an old file"],
)
def test_millions_of_empty_elements_are_not_walked_through(data: bytes) -> None:
    """Measured by what is read, not by the clock: more elements than any object has are refused by their number."""
    with pytest.raises(StoreRejected) as refused:
        examine_file(data)
    assert re.search(r"more than 100000 elements|not a DICOM file", refused.value.reason), refused.value.reason
