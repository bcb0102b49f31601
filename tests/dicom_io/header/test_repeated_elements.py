"""The same element twice: the first counts, as DCMTK reads it, and people are told."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from dicom_io.gate.decision import GateRules, decide
from dicom_io.header import parsing
from dicom_io.header.instance_header import read_header
from dicom_io.pixels.grayscale import read_grayscale
from dicom_io.receive.store_request import StoreRequest, examine
from tests.dicom_io.images import CR, INSTANCE, data_set_of, dicom_file, image_file, write
from tests.peers.dcmtk import dcmdump


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    padded = value + b" " * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(padded)) + padded


FIRST, SECOND = element(0x10, 0x20, b"LO", b"FIRST"), element(0x10, 0x20, b"LO", b"SECOND")
CHEST = image_file(np.arange(64, dtype=np.uint16).reshape(8, 8), PatientName="Doe^Jane", PatientID="FIRST")
TWICE = CHEST.replace(FIRST, FIRST + SECOND)
LATER = CHEST.replace(FIRST, FIRST + element(0x10, 0x40, b"CS", b"F") + SECOND)  # and out of order


@pytest.mark.parametrize("file", [TWICE, LATER], ids=["next to it", "later"])
def test_the_first_patient_id_counts_and_the_second_is_flagged(file: bytes) -> None:
    header = read_header(file)
    assert (header.patient_id, header.flags) == ("FIRST", ("repeated element: PatientID",))
    assert "repeated element: PatientID" in decide(header, GateRules(small_images="flag")).flags
    assert parsing.text(parsing.parse_file(file), "PatientID") == "FIRST"


def test_nothing_is_flagged_where_each_element_stands_once() -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        assert read_header(image_file(np.zeros((8, 8), np.uint16), syntax, PatientID="1")).flags == ()


@pytest.mark.peer
def test_dcmtk_takes_the_first_too(tmp_path: Path) -> None:
    assert "[FIRST]" in dcmdump(write(tmp_path, TWICE), "PatientID")


def sequence_of(item: bytes, *, defined: bool) -> bytes:
    if defined:
        body = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
        return struct.pack("<HH2sHI", 0x08, 0x2218, b"SQ", 0, len(body)) + body
    body = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HH2sHI", 0x08, 0x2218, b"SQ", 0, 0xFFFFFFFF) + body + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize("defined", [True, False], ids=["defined length", "undefined length"])
def test_the_first_counts_inside_a_sequence_and_at_the_end_of_an_item(defined: bool) -> None:
    code = element(0x08, 0x102, b"SH", b"SCT")
    chest, knee = element(0x08, 0x100, b"SH", b"51185008"), element(0x08, 0x100, b"SH", b"72696002")
    file = CHEST.replace(
        element(0x10, 0x10, b"PN", b"Doe^Jane"),
        sequence_of(chest + code + knee, defined=defined) + element(0x10, 0x10, b"PN", b"Doe^Jane"),
    )
    header = read_header(file)
    assert header.anatomic_region is not None
    assert (header.anatomic_region.value, header.patient_name, header.patient_id) == ("51185008", "Doe^Jane", "FIRST")
    assert header.flags == ("repeated element: CodeValue",)


INNER = element(0x02, 0x10, b"UI", JPEGBaseline8Bit.encode() + b"\0")


@pytest.mark.parametrize("at", ["first", "in the middle"])
def test_an_inner_group_2_never_changes_the_transfer_syntax(at: str) -> None:
    data_set = data_set_of(CHEST)
    data_set = INNER + data_set if at == "first" else data_set.replace(FIRST, FIRST + INNER)
    file, header = examine(StoreRequest(CR, INSTANCE, CR, ExplicitVRLittleEndian, data_set))
    assert header.transfer_syntax_uid == ExplicitVRLittleEndian
    assert header.flags == ("repeated element: TransferSyntaxUID",)
    assert parsing.transfer_syntax(parsing.parse_file(file)) == ExplicitVRLittleEndian
    assert read_grayscale(file).record["transfer_syntax"] == "Explicit VR Little Endian"


def test_of_pixel_data_twice_the_first_is_read() -> None:
    pixels = CHEST[CHEST.index(b"\xe0\x7f\x10\x00") :]
    twice = CHEST + pixels[:12] + b"\xff" * (len(pixels) - 12)
    read = read_grayscale(twice)
    assert np.array_equal(read.image, read_grayscale(CHEST).image)
    assert "repeated element: PixelData" in read.flags


def test_of_two_windows_the_first_is_used_and_of_two_row_counts_too() -> None:
    rows = struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 8)
    file = CHEST.replace(rows, rows + struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 4))
    header = read_header(file)
    assert (header.rows, header.flags) == (8, ("repeated element: Rows",))
    assert read_grayscale(file).image.shape == (8, 8)


def test_a_repeated_instance_uid_is_the_one_of_the_command() -> None:
    uid = element(0x08, 0x18, b"UI", INSTANCE.encode() + b"\0")
    data_set = data_set_of(dicom_file()).replace(uid, uid + element(0x08, 0x18, b"UI", b"1.2.3.99"))
    assert len(data_set) > len(data_set_of(dicom_file()))
    _, header = examine(StoreRequest(CR, INSTANCE, CR, ExplicitVRLittleEndian, data_set))
    assert (header.sop_instance_uid, header.flags) == (INSTANCE, ("repeated element: SOPInstanceUID",))
