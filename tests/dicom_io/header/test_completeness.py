"""A data set is whole, or the element that is cut off is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid

from dicom_io.header.completeness import FileSlice, check_complete
from dicom_io.header.parsing import UnreadableDicom
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
