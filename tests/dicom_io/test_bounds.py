"""A small file cannot make this program allocate what it claims, or what comes out of it."""

from __future__ import annotations

import resource
import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, uid

from dicom_io.facts import UnreadableDicom, read_facts
from dicom_io.grayscale import PixelsUnreadable, read_grayscale
from dicom_io.pixel_description import DecoderMissing
from tests.dicom_io.images import image_file

SMALL = np.arange(64, dtype=np.uint16).reshape(8, 8)
GROWTH = 200_000  # kilobytes of resident memory; each of these claims gigabytes


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def deflated(data_set: bytes) -> bytes:
    """A file whose data set inflates to these bytes."""
    plain = image_file(SMALL, uid.DeflatedExplicitVRLittleEndian)
    meta = 144 + int.from_bytes(plain[140:144], "little")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return plain[:meta] + squeezer.compress(data_set) + squeezer.flush()


def rle(*segments: bytes) -> bytes:
    offsets, position = [], 64
    for segment in segments:
        offsets.append(position)
        position += len(segment)
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def test_a_deflated_bomb_is_refused_before_it_goes_off() -> None:
    # group 0008 with a comment of 2 GB: 2 MB deflated, twice
    bomb = deflated(struct.pack("<HH2sHI", 8, 0x103E, b"UT", 0, 0x7FFFFFFE) + bytes(1 << 29))
    before = peak()
    for read in (read_grayscale, read_facts):
        with pytest.raises(UnreadableDicom, match="deflated data set of more than 268435456 bytes"):
            read(bomb)
    assert peak() - before < GROWTH


def test_a_deflated_film_is_read() -> None:
    data = image_file(SMALL, uid.DeflatedExplicitVRLittleEndian, BitsStored=6)
    assert np.array_equal(read_grayscale(data).image, read_grayscale(image_file(SMALL, BitsStored=6)).image)


@pytest.mark.parametrize("coded", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.RLELossless])
@pytest.mark.parametrize("size", [(65535, 65535), (10001, 10000)])
def test_rows_and_columns_are_judged_before_anything_is_decoded(coded: str, size: tuple[int, int]) -> None:
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


def test_the_decoder_gets_the_image_whose_header_was_judged() -> None:
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
    film = dcmread(BytesIO(plain))
    film.add_new(0x60000010, "US", 8)
    film.add_new(0x60000011, "US", 8)
    film.add_new(0x60000050, "SS", [1, 1])
    film.add_new(0x60000100, "US", 1)
    film.add_new(0x60000102, "US", 0)
    film.add_new(0x60003000, "OW", b"\xff" * 8)
    film.PixelData = (SMALL | 0x8000).tobytes()  # and one as they used to be, in a bit above BitsStored
    buffer = BytesIO()
    film.save_as(buffer)
    assert np.array_equal(read_grayscale(buffer.getvalue()).image, read_grayscale(plain).image)


def test_what_field_of_view_says_was_done_already_is_not_done_again() -> None:
    said = {"FieldOfViewHorizontalFlip": "YES", "FieldOfViewRotation": "90"}
    assert np.array_equal(read_grayscale(image_file(SMALL, **said)).image, read_grayscale(image_file(SMALL)).image)
