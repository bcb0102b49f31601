"""Pixels that contradict their header, or of which a piece is missing, are refused: read all the same, they would be
another image than the one that was taken.
"""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, uid

from dicom_io.grayscale import PixelsUnreadable, read_grayscale
from tests.dicom_io.images import image_file
from tests.dicom_io.test_codecs import rle
from tests.peers.radiographs import sample


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """A real chest in 15 bits, uint16 [489, 461]."""
    return np.ascontiguousarray(dcmread(sample("RG1_UNCR")).pixel_array[::4, ::4])


def coded(frame: bytes, syntax: str, film: np.ndarray, **attributes: object) -> bytes:
    rows, columns = film.shape
    return image_file(frame, syntax, **{"Rows": rows, "Columns": columns, "BitsAllocated": 16, **attributes})


@pytest.mark.parametrize("lie", [{"BitsStored": 14}, {"BitsStored": 12}, {"BitsStored": 8}, {"PixelRepresentation": 1}])
def test_an_image_that_does_not_fit_into_its_bits_is_refused_and_not_wrapped_around(
    film: np.ndarray, lie: dict[str, object]
) -> None:
    lie = {"BitsStored": 15, **lie}
    files = [image_file(film, **lie), coded(rle(film), uid.RLELossless, film, **lie)]
    if "PixelRepresentation" not in lie:
        lossless = bytes(imagecodecs.ljpeg_encode(film, bitspersample=15))
        files.append(coded(lossless, uid.JPEGLosslessSV1, film, **lie))
    for file in files:
        with pytest.raises(PixelsUnreadable, match="the image needs the bits above"):
            read_grayscale(file)


@pytest.mark.parametrize("above", ["flag", "mask", "lines"])
def test_what_senders_keep_above_the_bits_of_an_image_is_masked(film: np.ndarray, above: str) -> None:
    kept = np.zeros(film.shape, bool)
    kept[{"flag": np.s_[:], "mask": np.s_[100:400, 50:400], "lines": np.s_[::16, 200:]}[above]] = True
    plain = film >> 3
    read = read_grayscale(image_file(plain | (kept.astype(np.uint16) << 14), BitsStored=12))
    assert np.array_equal(read.image, read_grayscale(image_file(plain, BitsStored=12)).image)


def test_fragments_in_a_transfer_syntax_without_any_are_refused_and_not_read_as_pixels(film: np.ndarray) -> None:
    plain = image_file(film, BitsStored=15)
    start, pixels = plain.rindex(b"\xe0\x7f\x10\x00OW"), film.tobytes()
    items = [struct.pack("<2HI", 0xFFFE, 0xE000, len(item)) + item for item in (b"", pixels)]
    end = struct.pack("<2HI", 0xFFFE, 0xE0DD, 0)
    element = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + b"".join(items) + end
    with pytest.raises(PixelsUnreadable, match="in fragments, but the transfer syntax is Explicit VR Little Endian"):
        read_grayscale(plain[:start] + element)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_a_jpeg_of_which_a_piece_is_missing_is_refused_and_not_filled_up_with_gray(
    film: np.ndarray, syntax: str
) -> None:
    frame = bytes(imagecodecs.jpeg8_encode((film >> 7).astype(np.uint8), level=90))
    eight = {"BitsAllocated": 8, "BitsStored": 8}
    whole = read_grayscale(coded(frame, syntax, film, **eight)).image
    behind = read_grayscale(coded(frame + b"\0" * 64, syntax, film, **eight)).image  # padding is no part of it
    assert np.array_equal(whole, behind)
    third = len(frame) // 3
    for damaged in (frame[: 2 * third] + b"\xff\xd9", frame[:third] + frame[2 * third :], frame[:-4000] + b"\xff\xd9"):
        with pytest.raises(PixelsUnreadable, match=r"the compressed frame ends in row \d+ of 489: a part is missing"):
            read_grayscale(coded(damaged, syntax, film, **eight))


def test_a_number_that_is_one_in_python_alone_is_none(film: np.ndarray) -> None:
    plain = image_file(film, BitsStored=15)
    odd = image_file(film, BitsStored=15, RescaleSlope=b"1_0", RescaleIntercept=b"0")
    read = read_grayscale(odd)
    assert read.record["modality_fallback"] == "RescaleSlope empty read as 1"
    assert np.array_equal(read.image, read_grayscale(plain).image)
