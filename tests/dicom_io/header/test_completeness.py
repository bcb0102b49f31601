"""A data set is whole, or the element that is cut off is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid

from dicom_io.header.completeness import FileSlice, check_complete
from dicom_io.header.instance_header import read_header
from dicom_io.header.parsing import UnreadableDicom
from dicom_io.receive.part10_files import examine_file
from dicom_io.receive.store_request import StoreRejected
from tests.dicom_io.images import code, data_set_of, image_file

PIXELS = np.zeros((20, 30), np.uint16)
SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
]


def encoded(syntax: str) -> bytes:
    return data_set_of(image_file(PIXELS, syntax, AnatomicRegionSequence=code("51185008", "SCT"), PatientName="A^B"))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_whole_data_set_passes(syntax: str) -> None:
    check_complete(encoded(syntax), syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_truncation_inside_an_element_is_found(syntax: str) -> None:
    whole = encoded(syntax)
    for length in (len(whole) - 2, len(whole) - 100, len(whole) // 2 - len(whole) // 2 % 2 + 1, 5):
        with pytest.raises(UnreadableDicom, match=r"truncated|inflated"):
            check_complete(whole[:length], syntax)


def test_the_reason_names_the_element_and_the_bytes() -> None:
    whole = encoded(uid.ExplicitVRLittleEndian)
    with pytest.raises(UnreadableDicom, match=r"\(7FE0,0010\) has 1100 of 1200 bytes"):
        check_complete(whole[:-100], uid.ExplicitVRLittleEndian)


def test_encapsulated_pixels_are_walked_through() -> None:
    whole = data_set_of(image_file(b"\xff\xd8" + b"x" * 98, uid.JPEGLosslessSV1, Rows=1, Columns=1))
    check_complete(whole, uid.JPEGLosslessSV1)
    check_complete(whole[:-8], uid.JPEGLosslessSV1)  # only the delimiter left out: some senders do
    with pytest.raises(UnreadableDicom, match="truncated"):
        check_complete(whole[:-20], uid.JPEGLosslessSV1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x00\x05\x00",
        b"Dear colleague, this is a letter and no data set at all",
        b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff",
        b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
        b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + b"\x10\x00\x10\x00PN\x02\x00AB",
        b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 200,
    ],
)
def test_what_is_no_data_set_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableDicom):
        check_complete(data, uid.ExplicitVRLittleEndian)


@given(data=st.binary(max_size=400), syntax=st.sampled_from(SYNTAXES))
def test_any_bytes_pass_or_are_refused(data: bytes, syntax: str) -> None:
    try:
        check_complete(data, syntax)
    except UnreadableDicom as refusal:
        assert refusal.reason


@pytest.mark.parametrize(
    "data",
    [
        bytes(8 * 200_000),  # as many empty elements, all (0000,0000)
        b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 200_000,
        (b"\x09\x00\x01\x10UN\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 60_000 + b"\xfe\xff\xdd\xe0\0\0\0\0")
        * 3,
    ],
    ids=["elements", "items", "items of unknown sequences"],
)
def test_elements_without_end_are_refused_before_they_cost_time(data: bytes) -> None:
    with pytest.raises(UnreadableDicom, match="more than 100000 elements"):
        check_complete(data, uid.ExplicitVRLittleEndian)


class _File:
    """A file of which a slice has what comes after its first three bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = b"abc" + data

    def __len__(self) -> int:
        return len(self.data)

    def read(self, position: int, count: int) -> bytes:
        return self.data[position : position + count]


def _reason(data: bytes | FileSlice, syntax: str) -> str:
    try:
        check_complete(data, syntax)
    except UnreadableDicom as error:
        return error.reason
    return ""


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_is_checked_like_its_bytes(syntax: str) -> None:
    whole = encoded(syntax)
    for length in (*range(0, len(whole), 37), len(whole)):
        data = FileSlice(_File(whole[:length]), 3, block_size=30)  # type: ignore[arg-type]
        assert len(data) == length
        assert data[5:25] == whole[:length][5:25]
        assert _reason(data, syntax) == _reason(whole[:length], syntax)


NO_VRS = [
    (b"--", "'--'"), (b"??", r"'\?\?'"), (b"us", "'us'"), (b"  ", "'  '"),
    (b"\0\0", "0x0000"), (b"\x06\0", "0x0600"), (b"\\A", "0x5c41"),
]  # fmt: skip


def with_vr(vr: bytes) -> bytes:
    """A file whose PatientID has this VR."""
    whole = image_file(PIXELS, PatientID="ID 123", StudyDescription="CHEST")
    changed = b"\x10\0\x20\0LO\x06\0"
    assert whole.count(changed) == 1
    return whole.replace(changed, changed[:4] + vr + changed[6:])


@pytest.mark.parametrize(("vr", "shown"), NO_VRS)
def test_an_element_whose_vr_does_not_exist_is_named(vr: bytes, shown: str) -> None:
    name = r"\(0010,0020\) PatientID has "
    with pytest.raises(UnreadableDicom, match=f"{name}the VR {shown}, which does not exist$"):
        check_complete(data_set_of(with_vr(vr)), uid.ExplicitVRLittleEndian)
    with pytest.raises(UnreadableDicom, match=f"{name}no valid VR$"):
        read_header(with_vr(vr))
    with pytest.raises(StoreRejected, match=name) as rejected:
        examine_file(with_vr(vr))
    assert "123" not in rejected.value.reason


def test_a_wrong_length_is_named_where_the_bytes_behind_it_are_no_element() -> None:
    data_set = data_set_of(image_file(PIXELS, PatientID="ID 123"))
    longer = data_set.replace(b"\x10\0\x20\0LO\x06", b"\x10\0\x20\0LO\x08")
    with pytest.raises(UnreadableDicom, match=r"or the length of \(0010,0020\) PatientID is wrong$"):
        check_complete(longer, uid.ExplicitVRLittleEndian)


@pytest.mark.parametrize("vr", [b"--", b"us"])
def test_an_element_of_an_item_is_named_too(vr: bytes) -> None:
    element = b"\x08\0\0\x01" + vr + b"\x04\x005118"
    items = b"\x08\0\x18\x22SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" + element
    data_set = data_set_of(image_file(PIXELS))
    with pytest.raises(UnreadableDicom, match=r"\(0008,0100\) CodeValue has the VR"):
        check_complete(items + data_set, uid.ExplicitVRLittleEndian)


@pytest.mark.parametrize("vr", [b"ZZ", b"Lo"])
def test_an_unknown_vr_that_all_read_alike_is_read_and_named_where_the_data_set_then_does_not_end(vr: bytes) -> None:
    assert read_header(with_vr(vr)).patient_id == "ID 123"
    data_set = data_set_of(with_vr(vr))
    check_complete(data_set, uid.ExplicitVRLittleEndian)
    with pytest.raises(
        UnreadableDicom, match=rf"of 1200 bytes; before it, \(0010,0020\) PatientID has the VR '{vr.decode()}'$"
    ):
        check_complete(data_set[:-100], uid.ExplicitVRLittleEndian)


def test_a_file_that_is_implicit_although_it_declares_explicit_is_still_read() -> None:
    explicit, implicit = (image_file(PIXELS, syntax, PatientID="ID 123") for syntax in SYNTAXES[1::-1])
    head = explicit[: len(explicit) - len(data_set_of(explicit))]
    assert read_header(head + data_set_of(implicit)).patient_id == "ID 123"
