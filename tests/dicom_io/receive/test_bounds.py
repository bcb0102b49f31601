"""A small file cannot make this program allocate what it claims, or what comes out of it."""

from __future__ import annotations

import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, uid

from dicom_io.header.completeness import check_complete
from dicom_io.header.instance_header import UnreadableDicom, read_header
from dicom_io.header.parsing import one_inflated
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from dicom_io.pixels.image_pixel_module import DecoderMissing
from dicom_io.receive.part10_files import examine_file
from dicom_io.receive.store_request import StoreRejected
from tests.dicom_io.images import data_set_of, image_file

SMALL = np.arange(64, dtype=np.uint16).reshape(8, 8)
GROWTH = 200_000  # kilobytes of resident memory; each of these claims gigabytes


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def deflated(*data_set: bytes) -> bytes:
    """A file whose data set inflates to these pieces."""
    plain = image_file(SMALL, uid.DeflatedExplicitVRLittleEndian)
    meta = 144 + int.from_bytes(plain[140:144], "little")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return plain[:meta] + b"".join(squeezer.compress(piece) for piece in data_set) + squeezer.flush()


def rle(*segments: bytes) -> bytes:
    offsets, position = [], 64
    for segment in segments:
        offsets.append(position)
        position += len(segment)
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A group 0008 with a comment that says it has 2 GB: more than 256 MiB of it, deflated to some hundred kB."""
    return deflated(struct.pack("<HH2sHI", 8, 0x103E, b"UT", 0, 0x7FFFFFFE), *[bytes(1 << 20)] * 300)


def disguised(bomb: bytes, how: str) -> bytes:
    """The bomb so that its transfer syntax, or where the data set begins, is not found in the usual place."""
    filler = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2000) + bytes(2000)
    length = int.from_bytes(bomb[140:144], "little")
    start = 144 + length
    return {
        "as it should be": bomb,
        "without preamble": bomb[132:],
        "its syntax beyond 1024 bytes": bomb[:140] + struct.pack("<I", length + len(filler)) + filler + bomb[144:],
        "both": bomb[132:144] + filler + bomb[144:],
        "without its group length": bomb[:132] + bomb[144:],
        "with a wrong group length": bomb[:140] + struct.pack("<I", len(bomb)) + bomb[144:],
        "behind a command": bomb[:start] + struct.pack("<HHIH", 0, 0xFF10, 2, 0) + bomb[start:],
        "behind a meta without end": bomb[:144] + filler * 33 + bomb[144:],
    }[how]


REFUSALS = {
    "behind a command": "a command set precedes",
    "behind a meta without end": "not a readable DICOM object",
}


@pytest.mark.parametrize(
    "how",
    [
        "as it should be",
        "without preamble",
        "its syntax beyond 1024 bytes",
        "both",
        "without its group length",
        "with a wrong group length",
        *REFUSALS,
    ],
)
def test_a_deflated_bomb_is_refused_before_it_goes_off(bomb: bytes, how: str) -> None:
    file = disguised(bomb, how)
    before = peak()
    for read in (read_grayscale, read_header):
        with pytest.raises(UnreadableDicom, match=REFUSALS.get(how, "deflated data set of more than 268435456 bytes")):
            read(file)
    assert peak() - before < GROWTH


def test_a_deflated_bomb_is_refused_before_it_is_walked_through(bomb: bytes) -> None:
    before = peak()
    with pytest.raises(UnreadableDicom, match="deflated data set of more than 268435456 bytes"):
        check_complete(data_set_of(bomb), uid.DeflatedExplicitVRLittleEndian)
    for file in (bomb, bomb[132:]):
        with pytest.raises(StoreRejected):
            examine_file(file)
    assert peak() - before < GROWTH


def test_a_deflated_image_is_read() -> None:
    data = image_file(SMALL, uid.DeflatedExplicitVRLittleEndian, BitsStored=6)
    for file in (data, data[132:]):
        assert np.array_equal(read_grayscale(file).image, read_grayscale(image_file(SMALL, BitsStored=6)).image)


def _check(file: bytes) -> None:
    check_complete(data_set_of(file), uid.DeflatedExplicitVRLittleEndian)


@pytest.mark.parametrize("read", [_check, read_header, read_grayscale])
def test_one_data_set_at_a_time_is_inflated(read: Callable[[bytes], object]) -> None:
    with ThreadPoolExecutor(1) as pool:
        with one_inflated():  # as if another thread held one
            waiting = pool.submit(read, image_file(SMALL, uid.DeflatedExplicitVRLittleEndian))
            with pytest.raises(FutureTimeout):
                waiting.result(0.5)
            read_grayscale(image_file(SMALL))  # what is not deflated does not wait
        waiting.result(60)


def test_a_refusal_keeps_no_inflated_data_set_alive() -> None:
    size = 1 << 25
    file = deflated(struct.pack("<HH2sHI", 8, 0x103E, b"UT", 0, size) + bytes(size) + b"cut off")
    refusals = []
    tracemalloc.start()
    try:
        for _ in range(3):
            with pytest.raises(UnreadableDicom, match="data set truncated") as refusal:
                check_complete(data_set_of(file), uid.DeflatedExplicitVRLittleEndian)
            refusals.append(refusal)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < size // 4
    assert most < 1.5 * size


@pytest.mark.parametrize("coded", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.RLELossless])
@pytest.mark.parametrize("size", [(65535, 65535), (10001, 10000)])
def test_rows_and_columns_are_checked_before_anything_is_decoded(coded: str, size: tuple[int, int]) -> None:
    before = peak()
    with pytest.raises(PixelsUnreadable, match=f"Rows x Columns is {size[0]} x {size[1]}: more than 100000000"):
        read_grayscale(image_file(b"\xff" * 100, coded, Rows=size[0], Columns=size[1]))
    assert peak() - before < GROWTH


def test_an_rle_segment_that_holds_more_than_the_image_is_refused_before_it_is_inflated() -> None:
    bomb = rle(*[b"\x81\0" * (1 << 24)] * 2)  # 32 MB each, 2 GB once decoded
    before = peak()
    with pytest.raises(PixelsUnreadable, match="64 pixels, but RLE segment 1 of 2 holds more"):
        read_grayscale(image_file(bomb, uid.RLELossless, Rows=8, Columns=8))
    assert peak() - before < GROWTH + 4 * len(bomb) // 1000


def test_the_decoder_gets_the_image_whose_header_was_checked() -> None:
    """A JP2 file with a small header in a box before the real, huge codestream."""
    small = bytes(imagecodecs.jpeg2k_encode(SMALL, codecformat="j2k", reversible=True, level=0))
    huge = bytearray(small)
    huge[8:16] = struct.pack(">II", 60000, 60000)  # Xsiz, Ysiz
    huge[24:32] = struct.pack(">II", 60000, 60000)  # one tile
    box = struct.pack(">I", 8 + 16 + len(small)) + b"uuid" + bytes(16) + small
    signature = bytes.fromhex("0000000c6a5020200d0a870a0000001466747970 6a703220000000006a703220")
    frame = signature + box + struct.pack(">I", 0) + b"jp2c" + bytes(huge)
    before = peak()
    shown = read_grayscale(image_file(frame, uid.JPEG2000Lossless, Rows=8, Columns=8, BitsStored=16))
    assert np.array_equal(shown.image, read_grayscale(image_file(SMALL)).image)
    assert peak() - before < GROWTH


def test_a_frame_of_many_frames_is_refused_by_its_number() -> None:
    with pytest.raises(PixelsUnreadable, match="NumberOfFrames is 2147483647"):
        read_grayscale(image_file(SMALL, NumberOfFrames="2147483647"))


def test_compressed_values_below_a_high_bit_beyond_them_are_found() -> None:
    """HighBit 15 of 12 bits, kept by an encoder that codes all 16."""
    pixels = np.array([[0, 0x7FF0], [0x8000, 0xFFF0]], np.uint16).repeat(4, 0).repeat(4, 1)
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0, bitspersample=16))
    layout = {"BitsStored": 12, "HighBit": 15}
    coded = image_file(frame, uid.JPEG2000Lossless, Rows=8, Columns=8, **layout)
    assert np.array_equal(read_grayscale(coded).image, read_grayscale(image_file(pixels, **layout)).image)


@pytest.mark.parametrize("error", [ImportError("no jpegls"), AttributeError("jpegls_decode")])
def test_a_decoder_that_this_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def lacking(*_arguments: object, **_options: object) -> None:
        raise error

    frame = bytes(imagecodecs.jpegls_encode(SMALL))
    if isinstance(error, ImportError):
        monkeypatch.setattr(imagecodecs, "jpegls_decode", lacking)
    else:
        monkeypatch.delattr(imagecodecs, "jpegls_decode")
        monkeypatch.setattr(imagecodecs, "__getattr__", lacking, raising=False)
    with pytest.raises(DecoderMissing, match="this machine has no decoder for JPEG-LS Lossless"):
        read_grayscale(image_file(frame, uid.JPEGLSLossless, Rows=8, Columns=8))


def test_overlays_are_not_burned_in() -> None:
    plain = image_file(SMALL, BitsStored=6)
    radiograph = dcmread(BytesIO(plain))
    radiograph.add_new(0x60000010, "US", 8)
    radiograph.add_new(0x60000011, "US", 8)
    radiograph.add_new(0x60000050, "SS", [1, 1])
    radiograph.add_new(0x60000100, "US", 1)
    radiograph.add_new(0x60000102, "US", 0)
    radiograph.add_new(0x60003000, "OW", b"\xff" * 8)
    radiograph.PixelData = (SMALL | 0x8000).tobytes()  # and one as they used to be, in a bit above BitsStored
    buffer = BytesIO()
    radiograph.save_as(buffer)
    assert np.array_equal(read_grayscale(buffer.getvalue()).image, read_grayscale(plain).image)


def test_what_field_of_view_says_was_done_already_is_not_done_again() -> None:
    said = {"FieldOfViewHorizontalFlip": "YES", "FieldOfViewRotation": "90"}
    assert np.array_equal(read_grayscale(image_file(SMALL, **said)).image, read_grayscale(image_file(SMALL)).image)
