"""Readable pixels under a wrong label: offset tables, frames and transfer syntaxes that contradict the pixels."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from dicom_io.gate.decision import GateRules, decide
from dicom_io.header.instance_header import read_header
from dicom_io.pixels.grayscale import Grayscale, PixelsUnreadable, SufficientResolution, read_grayscale
from tests.dicom_io.images import dicom_file, image_file
from tests.dicom_io.pixels.test_decoding import LOSSLESS, RAMP, htj2k, jpeg2000, jpeg_lossless, jpegls, rle

LAYOUT: dict[str, object] = {
    "Rows": 48,
    "Columns": 40,
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PatientOrientation": ["L", "F"],
}
PLAIN = read_grayscale(image_file(RAMP, BitsStored=12)).image
SMOOTH = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (48, 1))
BASELINE = bytes(imagecodecs.jpeg8_encode(SMOOTH, level=95))
EIGHT: dict[str, object] = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


def encapsulated(syntax: str, items: Sequence[bytes], **attributes: object) -> bytes:
    """A file whose PixelData are exactly these items, the first of them its Basic Offset Table."""
    whole = dicom_file(syntax, **{**LAYOUT, **attributes})
    joined = b"".join(struct.pack("<2HI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    end = struct.pack("<2HI", 0xFFFE, 0xE0DD, 0)
    return whole + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + joined + end


def pieces(frame: bytes, count: int) -> list[bytes]:
    frame += b"\0" * (len(frame) % 2)
    ends = [len(frame) * number // count // 2 * 2 for number in range(count)] + [len(frame)]
    return [frame[start:end] for start, end in pairwise(ends)]


def offsets(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


TABLES = {
    "none": b"",
    "one of the frame": offsets(0),
    "an entry a fragment": offsets(0, 500, 1000),
    "more entries than fragments": offsets(*range(0, 9000, 1000)),
    "behind the end": offsets(1_000_000),
    "the second fragment": offsets(508),
    "the highest": offsets(0xFFFFFFFF),
    "no whole number of entries": b"\0\0\0\0\0\0",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS, ids=[row[0].name for row in LOSSLESS])
def test_one_frame_needs_no_offset_table(syntax: str, encode: object, count: int, table: str) -> None:
    frame = encode(RAMP)  # type: ignore[operator]
    shown = read_grayscale(encapsulated(syntax, [TABLES[table], *pieces(frame, count)]))
    assert np.array_equal(shown.image, PLAIN)
    assert shown.flags == ()


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEG2000Lossless])
def test_an_offset_table_that_is_missing_or_extended_is_none_that_matters(syntax: str) -> None:
    frame = jpeg_lossless(RAMP) if syntax == uid.JPEGLosslessSV1 else jpeg2000(RAMP)
    assert np.array_equal(read_grayscale(encapsulated(syntax, pieces(frame, 1))).image, PLAIN)
    assert np.array_equal(read_grayscale(encapsulated(syntax, pieces(frame, 3))).image, PLAIN)
    wrong = {"ExtendedOffsetTable": struct.pack("<Q", 77), "ExtendedOffsetTableLengths": struct.pack("<Q", 10)}
    extended = {keyword: ("OV", value) for keyword, value in wrong.items()}
    assert np.array_equal(read_grayscale(encapsulated(syntax, [b"", *pieces(frame, 3)], **extended)).image, PLAIN)
    assert np.array_equal(read_grayscale(encapsulated(syntax, [b"", *pieces(frame, 3), b"", b""])).image, PLAIN)
    halved = read_grayscale(encapsulated(syntax, [offsets(0, 4, 9), *pieces(frame, 3)]), SufficientResolution(20, 20))
    assert halved.image.shape == ((24, 20) if syntax == uid.JPEG2000Lossless else (48, 40))


@pytest.mark.parametrize("frames", ["", "0", "1", None])
def test_several_frames_are_not_read_as_one(frames: str | None) -> None:
    for syntax, frame in ((uid.JPEGLosslessSV1, jpeg_lossless(RAMP)), (uid.JPEG2000Lossless, jpeg2000(RAMP))):
        even = frame + b"\0" * (len(frame) % 2)
        with pytest.raises(PixelsUnreadable, match="PixelData contains 2 frames, but NumberOfFrames says one"):
            read_grayscale(encapsulated(syntax, [offsets(0, len(even) + 8), even, even], NumberOfFrames=frames))
    with pytest.raises(PixelsUnreadable, match="but PixelData holds 7680 bytes"):
        read_grayscale(image_file(RAMP.tobytes() * 2, **LAYOUT, NumberOfFrames=frames))


def test_without_a_fragment_there_is_nothing_to_read() -> None:
    for items in ([], [b""], [b"", b""]):
        with pytest.raises(PixelsUnreadable, match=r"not encapsulated|PixelData is empty"):
            read_grayscale(encapsulated(uid.JPEGLosslessSV1, items))


@pytest.mark.parametrize(
    ("stated", "single"),
    [
        (None, True),
        ("", True),
        ("0", True),
        ("00", True),
        (" 1", True),
        (b"one", True),
        ("2", False),
        ("-1", False),
        ("99999999999", False),
        ("1e30", False),
    ],
)
def test_gate_and_decoder_judge_frames_alike(stated: object, single: bool) -> None:
    pixels = np.kron(RAMP, np.ones((13, 13), np.uint16))
    file = image_file(pixels, BitsStored=12, NumberOfFrames=("IS", stated) if isinstance(stated, bytes) else stated)
    assert decide(read_header(file, ()), GateRules(), is_own=False).accepted is single
    if single:
        assert np.array_equal(read_grayscale(file).image[::13, ::13], PLAIN)
    else:
        with pytest.raises(PixelsUnreadable, match="NumberOfFrames is"):
            read_grayscale(file)


def flagged(shown: Grayscale) -> str:
    (flag,) = shown.flags
    return flag


COMPRESSED = [
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    *(row[0] for row in LOSSLESS),
    uid.JPEG2000,
    uid.JPEGLSNearLossless,
]


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_the_decoder_is_chosen_by_the_frame_and_not_by_its_label(syntax: uid.UID) -> None:
    codings = {
        "JPEG Lossless": (jpeg_lossless(RAMP), (uid.JPEGLossless, uid.JPEGLosslessSV1)),
        "JPEG-LS": (jpegls(RAMP), (uid.JPEGLSLossless, uid.JPEGLSNearLossless)),
        "JPEG 2000": (jpeg2000(RAMP), (uid.JPEG2000, uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL)),
        "RLE": (rle(RAMP), (uid.RLELossless,)),
    }
    for coding, (frame, right) in codings.items():
        shown = read_grayscale(encapsulated(syntax, [b"", *pieces(frame, 2)]))
        assert np.array_equal(shown.image, PLAIN), coding
        assert shown.flags == (() if syntax in right else (f"transfer syntax wrong: the pixels are {coding}",))
    assert np.array_equal(read_grayscale(encapsulated(syntax, [b"", htj2k(RAMP)])).image, PLAIN)


def test_a_baseline_jpeg_labelled_as_lossless_is_read_and_flagged() -> None:
    right = read_grayscale(encapsulated(uid.JPEGBaseline8Bit, [b"", BASELINE], **EIGHT))
    assert np.abs(right.image * 255 - SMOOTH).max() < 4
    assert right.flags == ()
    for syntax in (uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEG2000, uid.RLELossless, uid.JPEGLSLossless):
        wrong = read_grayscale(encapsulated(syntax, [b"", *pieces(BASELINE, 3)], **EIGHT))
        assert np.array_equal(wrong.image, right.image)
        assert flagged(wrong) == "transfer syntax wrong: the pixels are JPEG"
    with pytest.raises(PixelsUnreadable, match="BitsStored is 12, but the compressed frame has 8 bits"):
        read_grayscale(encapsulated(uid.JPEGLosslessSV1, [b"", BASELINE]))  # shown by BitsStored it would be black
    third = len(BASELINE) // 3
    with pytest.raises(PixelsUnreadable):
        read_grayscale(encapsulated(uid.JPEGLosslessSV1, [b"", BASELINE[:third] + BASELINE[2 * third :]], **EIGHT))


def test_a_progressive_jpeg_is_read() -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "JPEG", quality=95, progressive=True)
    shown = read_grayscale(encapsulated(uid.JPEGBaseline8Bit, [b"", buffer.getvalue()], **EIGHT))
    assert np.abs(shown.image * 255 - SMOOTH).max() < 4


def test_a_compressed_frame_labelled_as_uncompressed_is_read_and_flagged() -> None:
    shown = read_grayscale(encapsulated(uid.ExplicitVRLittleEndian, [b"", *pieces(jpeg_lossless(RAMP), 3)]))
    assert np.array_equal(shown.image, PLAIN)
    assert flagged(shown) == "transfer syntax wrong: the pixels are JPEG Lossless"


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_uncompressed_pixels_labelled_as_compressed_are_read_and_flagged(syntax: str) -> None:
    native = dicom_file(syntax, **LAYOUT)
    pixels = RAMP.tobytes()
    header = b"\xe0\x7f\x10\x00OW\0\0"
    shown = read_grayscale(native + header + struct.pack("<I", len(pixels)) + pixels, SufficientResolution(20, 20))
    assert np.array_equal(shown.image, PLAIN)
    assert flagged(shown) == "transfer syntax wrong: the pixels are uncompressed"
    for length in (len(pixels) - 2, len(pixels) + 2):
        other = (pixels * 2)[:length]
        with pytest.raises(PixelsUnreadable, match="not encapsulated as its transfer syntax says"):
            read_grayscale(native + header + struct.pack("<I", length) + other)
