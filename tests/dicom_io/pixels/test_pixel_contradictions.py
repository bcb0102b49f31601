"""Pixels that contradict their header, or of which a piece is missing, are refused: read all the same, they would be
another image than the one that was taken.
"""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, uid

from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from tests.dicom_io.images import image_file
from tests.dicom_io.pixels.test_decoding import rle
from tests.peers.radiographs import sample


@pytest.fixture(scope="module")
def radiograph() -> np.ndarray:
    """A real chest in 15 bits, uint16 [489, 461]."""
    return np.ascontiguousarray(dcmread(sample("RG1_UNCR")).pixel_array[::4, ::4])


def coded(frame: bytes, syntax: str, radiograph: np.ndarray, **attributes: object) -> bytes:
    rows, columns = radiograph.shape
    return image_file(frame, syntax, **{"Rows": rows, "Columns": columns, "BitsAllocated": 16, **attributes})


@pytest.mark.parametrize("lie", [{"BitsStored": 14}, {"BitsStored": 12}, {"BitsStored": 8}, {"PixelRepresentation": 1}])
def test_an_image_that_does_not_fit_into_its_bits_is_refused_and_not_wrapped_around(
    radiograph: np.ndarray, lie: dict[str, object]
) -> None:
    lie = {"BitsStored": 15, **lie}
    files = [image_file(radiograph, **lie), coded(rle(radiograph), uid.RLELossless, radiograph, **lie)]
    if "PixelRepresentation" not in lie:
        lossless = bytes(imagecodecs.ljpeg_encode(radiograph, bitspersample=15))
        files.append(coded(lossless, uid.JPEGLosslessSV1, radiograph, **lie))
    for file in files:
        with pytest.raises(PixelsUnreadable, match="the values need more bits"):
            read_grayscale(file)


@pytest.mark.parametrize("bits", [12, 15, 16])
def test_values_of_the_other_sign_are_refused_and_not_wrapped_around(radiograph: np.ndarray, bits: int) -> None:
    unsigned = (radiograph << 1) >> (16 - bits)
    around_zero = (unsigned.astype(np.int64) - (1 << (bits - 1))).astype(np.int16)
    read = read_grayscale(image_file(around_zero, BitsStored=bits))
    assert np.array_equal(read.image, read_grayscale(image_file(unsigned, BitsStored=bits)).image)
    for pixels, sign, right in ((around_zero.view(np.uint16), 0, "signed"), (unsigned, 1, "unsigned")):
        coded_alike = pixels.view(np.uint16) & np.uint16((1 << bits) - 1)
        files = [
            image_file(pixels, BitsStored=bits, PixelRepresentation=sign),
            image_file(coded_alike, BitsStored=bits, PixelRepresentation=sign),
        ]
        lossless = bytes(imagecodecs.ljpeg_encode(coded_alike, bitspersample=bits))
        said = {"BitsStored": bits, "PixelRepresentation": sign}
        files.append(coded(lossless, uid.JPEGLosslessSV1, radiograph, **said))
        for file in files:
            with pytest.raises(
                PixelsUnreadable, match=f"values are {right}: they wrap around|the values need more bits"
            ):
                read_grayscale(file)


@pytest.mark.parametrize("border", [(0, 65535), (3, 65530), (65530, 3)])
@pytest.mark.parametrize("signed", [False, True])
def test_a_bright_border_beside_black_is_no_sign_that_wraps_around(
    radiograph: np.ndarray, border: tuple[int, int], signed: bool
) -> None:
    pixels = (radiograph.astype(np.int64) << 1) // 20  # dark, and beside it
    pixels[:, :60], pixels[:, 60:90] = border
    stored = (pixels - 32768).astype(np.int16) if signed else pixels.astype(np.uint16)
    assert read_grayscale(image_file(stored)).image.shape == pixels.shape


def test_a_high_bit_that_is_not_where_the_pixels_are_is_read_by_them_and_flagged(radiograph: np.ndarray) -> None:
    twelve = radiograph >> 3
    right = read_grayscale(image_file(twelve, BitsStored=12))
    assert not any("HighBit" in flag for flag in right.flags)
    low = read_grayscale(image_file(twelve, BitsStored=12, HighBit=15))
    high = read_grayscale(image_file(twelve << 4, BitsStored=12, HighBit=11))
    for wrong in (low, high):
        assert np.array_equal(wrong.image, right.image)
        assert "HighBit wrong: read by the pixels" in wrong.flags
    justified = read_grayscale(image_file(twelve << 4, BitsStored=12, HighBit=15))
    assert np.array_equal(justified.image, right.image)
    assert justified.flags == right.flags


@pytest.mark.parametrize("above", ["flag", "mask", "lines"])
def test_what_senders_keep_above_the_bits_of_an_image_is_masked(radiograph: np.ndarray, above: str) -> None:
    kept = np.zeros(radiograph.shape, bool)
    kept[{"flag": np.s_[:], "mask": np.s_[100:400, 50:400], "lines": np.s_[::16, 200:]}[above]] = True
    plain = radiograph >> 3
    read = read_grayscale(image_file(plain | (kept.astype(np.uint16) << 14), BitsStored=12))
    assert np.array_equal(read.image, read_grayscale(image_file(plain, BitsStored=12)).image)


def test_fragments_in_a_transfer_syntax_without_any_are_refused_and_not_read_as_pixels(radiograph: np.ndarray) -> None:
    plain = image_file(radiograph, BitsStored=15)
    start, pixels = plain.rindex(b"\xe0\x7f\x10\x00OW"), radiograph.tobytes()
    items = [struct.pack("<2HI", 0xFFFE, 0xE000, len(item)) + item for item in (b"", pixels)]
    end = struct.pack("<2HI", 0xFFFE, 0xE0DD, 0)
    element = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + b"".join(items) + end
    with pytest.raises(PixelsUnreadable, match="in fragments, but the transfer syntax is Explicit VR Little Endian"):
        read_grayscale(plain[:start] + element)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_a_jpeg_of_which_a_piece_is_missing_is_refused_and_not_filled_up_with_gray(
    radiograph: np.ndarray, syntax: str
) -> None:
    frame = bytes(imagecodecs.jpeg8_encode((radiograph >> 7).astype(np.uint8), level=90))
    eight = {"BitsAllocated": 8, "BitsStored": 8}
    whole = read_grayscale(coded(frame, syntax, radiograph, **eight)).image
    behind = read_grayscale(coded(frame + b"\0" * 64, syntax, radiograph, **eight)).image  # padding is no part of it
    assert np.array_equal(whole, behind)
    third = len(frame) // 3
    for damaged in (frame[: 2 * third] + b"\xff\xd9", frame[:third] + frame[2 * third :], frame[:-4000] + b"\xff\xd9"):
        with pytest.raises(PixelsUnreadable, match=r"the compressed frame ends in row \d+ of 489: a part is missing"):
            read_grayscale(coded(damaged, syntax, radiograph, **eight))


def test_a_number_that_is_one_in_python_alone_is_none(radiograph: np.ndarray) -> None:
    plain = image_file(radiograph, BitsStored=15)
    odd = image_file(radiograph, BitsStored=15, RescaleSlope=b"1_0", RescaleIntercept=b"0")
    read = read_grayscale(odd)
    assert read.record["modality_fallback"] == "RescaleSlope empty read as 1"
    assert np.array_equal(read.image, read_grayscale(plain).image)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000, uid.JPEGLSNearLossless])
def test_a_lossy_frame_with_fewer_bits_than_the_header_says_is_refused_and_not_shown_as_black(
    radiograph: np.ndarray, syntax: str
) -> None:
    eight = (radiograph >> 7).astype(np.uint8)
    if syntax == uid.JPEG2000:
        frame = bytes(imagecodecs.jpeg2k_encode(eight, codecformat="j2k", reversible=False, level=45))
    elif syntax == uid.JPEGLSNearLossless:
        frame = bytes(imagecodecs.jpegls_encode(eight, level=2))
    else:
        frame = bytes(imagecodecs.jpeg8_encode(eight, level=90))
    with pytest.raises(PixelsUnreadable, match="BitsStored is 12, but the compressed frame has 8 bits a sample"):
        read_grayscale(coded(frame, syntax, radiograph, BitsStored=12))


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEG2000])
def test_a_lossless_frame_with_fewer_bits_than_the_header_says_is_read_as_it_is_and_flagged(
    radiograph: np.ndarray, syntax: str
) -> None:
    ten = radiograph >> 5
    if syntax == uid.JPEGLosslessSV1:
        frame = bytes(imagecodecs.ljpeg_encode(ten, bitspersample=10))
    elif syntax == uid.JPEGLSLossless:
        ten = radiograph >> 7  # the encoder takes whole bytes
        frame = bytes(imagecodecs.jpegls_encode(ten.astype(np.uint8)))
    else:
        frame = bytes(imagecodecs.jpeg2k_encode(ten, codecformat="j2k", reversible=True, level=0, bitspersample=10))
    bits = 8 if syntax == uid.JPEGLSLossless else 10
    read = read_grayscale(coded(frame, syntax, radiograph, BitsStored=12))
    assert np.array_equal(read.image, read_grayscale(image_file(ten, BitsStored=12)).image)
    assert f"compressed with {bits} of 12 bits" in read.flags
    whole = read_grayscale(coded(frame, syntax, radiograph, BitsStored=bits))
    assert not any(flag.startswith("compressed") for flag in whole.flags)


def test_lossy_values_above_the_bits_stored_are_clipped_and_not_masked(radiograph: np.ndarray) -> None:
    """A 12-bit frame of a 10-bit radiograph: what compression takes above white must not come out as black."""
    ten = np.clip(radiograph >> 4, 0, 1023)
    ten[100:200, 100:200] = 1030  # as ringing beside a white border
    frame = bytes(imagecodecs.jpeg8_encode(ten, level=98, bitspersample=12))
    read = read_grayscale(coded(frame, uid.JPEGExtended12Bit, radiograph, BitsStored=10)).image
    assert read[110:190, 110:190].min() > 0.99
    assert np.abs(read - read_grayscale(image_file(np.minimum(ten, 1023), BitsStored=10)).image).mean() < 0.01
