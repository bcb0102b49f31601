"""What fuzzing has found, each as the smallest case that shows it."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.header.instance_header import UnreadableDicom, read_header
from dicom_io.header.parsing import number, parse_file, parse_header
from dicom_io.objects.patient_and_study import copy_identity
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from dicom_io.receive.store_request import StoreRejected, StoreRequest, examine
from tests.dicom_io.images import CR, INSTANCE, data_set_of, dicom_file, image_file, item, sequence, write
from tests.dicom_io.wire import Witness, assert_aborted, listening

PIXELS = (np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 37) % 4096


def test_a_lut_of_no_bits_and_only_zeros_is_said_to_show_nothing_and_gives_no_nan() -> None:
    table = sequence(item(LUTDescriptor=("US", [256, 0, 0]), LUTData=("OW", bytes(512))))
    shown = read_grayscale(image_file(PIXELS, BitsStored=12, VOILUTSequence=table))
    assert np.isfinite(shown.image).all()
    assert "shows nothing" in str(shown.record["voi_fallback"])


def test_a_sequence_where_a_number_belongs_is_no_number_whatever_is_in_it() -> None:
    nonsense = Dataset()
    nonsense[0x4F4E4843] = RawDataElement(Tag(0x4F4E4843), "RO", 2, b"ab", 0, False, True, True)
    held = Dataset()
    held[0x00280002] = DataElement(Tag("SamplesPerPixel"), "SQ", Sequence([nonsense]))
    assert number(held, "SamplesPerPixel") is None


def test_a_length_that_is_no_multiple_of_its_values_is_unreadable_and_nothing_else() -> None:
    file = bytearray(dicom_file())
    file[138:140] = struct.pack("<H", 7)  # the file meta's group length, of seven bytes
    with pytest.raises(UnreadableDicom, match="BytesLengthException"):
        read_header(bytes(file))


def test_identity_with_a_number_of_odd_length_in_an_item_is_copied_without_it() -> None:
    inner = item(CodeValue="1")
    encoded = struct.pack("<HH2sH", 0x0008, 0x0001, b"UL", 3) + b"abc"
    file = dicom_file(ReferencedStudySequence=sequence(inner), PatientID="P1")
    code = struct.pack("<HH2sH", 0x0008, 0x0100, b"SH", 2) + b"1 "
    start = file.index(code)
    # in place of the code: an element that pydicom refuses to decode, one byte longer
    broken = bytearray(file[:start] + encoded + file[start + len(code) :])
    for tag in (b"\x08\x00\x10\x11SQ\0\0", b"\xfe\xff\x00\xe0"):
        place = broken.index(tag) + len(tag)
        length = struct.unpack_from("<I", broken, place)[0]
        struct.pack_into("<I", broken, place, length + len(encoded) - len(code))
    header, _ = parse_header(bytes(broken))
    target = Dataset()
    copy_identity(header, target)
    assert target.PatientID == "P1"
    assert "CodeValue" not in target.ReferencedStudySequence[0]


def _cut_in_an_item() -> bytes:
    """A sequence of undefined length whose next item's header is cut off: pydicom raises OSError for it."""
    opened = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    return dicom_file() + opened + b"\xfe\xff\x00\xe0"


def test_a_sequence_that_is_cut_off_is_the_objects_fault_and_not_the_disks(tmp_path: Path) -> None:
    broken = _cut_in_an_item()
    for source in (broken, write(tmp_path, broken)):
        for read in (parse_header, parse_file):
            with pytest.raises(UnreadableDicom, match="OSError while parsing"):
                read(source)
    with pytest.raises(FileNotFoundError):  # the disk's fault stays the disk's
        parse_header(tmp_path / "gone.dcm")
    with pytest.raises(StoreRejected):
        examine(StoreRequest(CR, INSTANCE, CR, ExplicitVRLittleEndian, data_set_of(broken)))


def test_an_empty_element_of_a_vr_that_does_not_exist_is_as_good_as_missing() -> None:
    file = dicom_file(PhotometricInterpretation="")
    place = file.index(b"\x28\x00\x04\x00CS") + 4
    header = read_header(file[:place] + b"C\x07" + file[place + 2 :])
    assert header.photometric == ""
    assert header.sop_instance_uid == INSTANCE


def test_pixels_and_tables_of_a_vr_that_does_not_exist_are_a_reason_and_a_fallback() -> None:
    file = image_file(PIXELS, BitsStored=12)
    place = file.index(b"\xe0\x7f\x10\x00OW") + 4
    with pytest.raises((PixelsUnreadable, UnreadableDicom)):
        read_grayscale(file[:place] + b"O\x80\0\0\0\0\0\0" + file[place + 8 :])
    table = sequence(item(LUTDescriptor=("US", [256, 0, 8]), LUTData=("OW", b"")))
    file = image_file(PIXELS, BitsStored=12, VOILUTSequence=table)
    place = file.index(b"\x28\x00\x06\x30OW") + 4
    shown = read_grayscale(file[:place] + b"O\x80" + file[place + 2 :])
    assert np.isfinite(shown.image).all()


def test_an_invalid_command_set_is_aborted_and_recorded(caplog: pytest.LogCaptureFixture) -> None:
    command = struct.pack("<HHI", 0, 0x0002, 2) + b"1\0"  # a command set without its CommandField
    value = struct.pack(">IBB", len(command) + 2, 1, 3) + command
    witness = Witness()
    with listening(witness) as listener, caplog.at_level(logging.WARNING):
        assert_aborted(listener, struct.pack(">BBI", 4, 0, len(value)) + value)
    (rejection,) = witness.rejected
    assert "a message that cannot be decoded" in rejection.reason
    assert "Traceback" not in caplog.text
