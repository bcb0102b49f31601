"""JPEG 2000 decoded smaller shows the same image in the same place; what is not plain is decoded whole."""

from __future__ import annotations

import sys

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from dicom_io.pixels.codestream_headers import WaveletGrid, wavelet_grid
from dicom_io.pixels.grayscale import Grayscale, PixelsUnreadable, SufficientResolution, read_grayscale
from tests.dicom_io.images import image_file
from tests.peers.radiographs import sample

ENOUGH = SufficientResolution(longest=60, shortest=50)
ROWS, COLUMNS = 203, 185  # odd, as radiographs are
Y, X = np.mgrid[:ROWS, :COLUMNS]
BLOB = (3900 * np.exp(-((X - 61.3) ** 2 + (Y - 120.6) ** 2) / 400)).astype(np.uint16)


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            pixels, codecformat="j2k", **{"reversible": True, "level": 0, "bitspersample": 12, **options}
        )
    )


def radiograph(frame: bytes, syntax: str = uid.JPEG2000Lossless, **attributes: object) -> bytes:
    return image_file(frame, syntax, **{"Rows": ROWS, "Columns": COLUMNS, "BitsStored": 12, **attributes})


def centre_of_mass(shown: Grayscale) -> np.ndarray:
    """Of the blob, in stored pixels."""
    y, x = np.mgrid[: shown.image.shape[0], : shown.image.shape[1]]
    weights = shown.image.astype(np.float64) ** 2
    return shown.to_stored @ ((weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum(), 1.0)


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["F", "R"], ["H", "L"]])
def test_a_smaller_image_shows_everything_where_the_whole_one_does(orientation: list[str]) -> None:
    file = radiograph(encoded(BLOB), PatientOrientation=orientation, PixelSpacing=["0.2", "0.2"])
    whole, smaller = read_grayscale(file), read_grayscale(file, ENOUGH)
    assert smaller.record["resolution"] == "1/2 of 203 x 185"
    assert whole.record["resolution"] == "whole"
    assert smaller.full_shape == whole.image.shape == whole.full_shape
    assert sorted(smaller.image.shape) == [93, 102]
    # without laying it onto the whole grid it is half a pixel off, and a quarter of a pixel is seen here
    assert centre_of_mass(smaller) == pytest.approx(centre_of_mass(whole), abs=0.03)
    assert centre_of_mass(whole) == pytest.approx((61.3, 120.6), abs=0.03)
    for axis in (0, 1):  # the edges of both are the same
        length, small = whole.image.shape[axis], smaller.image.shape[axis]
        assert smaller.pixel_spacing is not None
        assert smaller.pixel_spacing[axis] * small == pytest.approx(0.2 * length)
    first, last = (
        smaller.to_stored @ (-0.5, -0.5, 1),
        smaller.to_stored @ (*np.array(smaller.image.shape[::-1]) - 0.5, 1),
    )
    assert sorted([first[0], last[0]]) == pytest.approx([-0.5, COLUMNS - 0.5])
    assert sorted([first[1], last[1]]) == pytest.approx([-0.5, ROWS - 0.5])


def test_the_lowest_resolution_that_is_enough_is_decoded() -> None:
    pixels = np.kron(BLOB[:200, :180], np.ones((2, 2), np.uint16))  # 400 x 360
    file = radiograph(encoded(pixels), Rows=400, Columns=360)
    shapes = {
        enough: read_grayscale(file, SufficientResolution(*enough)).image.shape
        for enough in ((100, 90), (101, 1), (1, 91), (200, 180), (201, 1), (1, 181), (1, 1))
    }
    assert shapes == {
        (100, 90): (100, 90),
        (101, 1): (200, 180),
        (1, 91): (200, 180),
        (200, 180): (200, 180),
        (201, 1): (400, 360),
        (1, 181): (400, 360),
        (1, 1): (25, 23),  # as far as the encoder halved it
    }


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2K])
def test_htj2k_is_decoded_smaller_too(syntax: str) -> None:
    file = radiograph(bytes(imagecodecs.htj2k_encode(BLOB, reversible=True)), syntax, BitsStored=16)
    whole, smaller = read_grayscale(file), read_grayscale(file, ENOUGH)
    assert smaller.image.shape == (102, 93)
    assert centre_of_mass(smaller) == pytest.approx(centre_of_mass(whole), abs=0.03)


ODD = {
    "padding": (encoded(BLOB), {"PixelPaddingValue": ("US", 0)}),
    "a shutter": (
        encoded(BLOB),
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": ["99", "99"], "RadiusOfCircularShutter": "80"},
    ),
    "pixels that are not square": (encoded(BLOB), {"PixelSpacing": ["0.2", "0.1"]}),
    "signed pixels": (
        encoded(BLOB.astype(np.int16) - 2048, bitspersample=None),
        {"PixelRepresentation": 1, "BitsStored": 16},
    ),
    "other bits than the header says": (encoded(BLOB), {"BitsStored": 16}),
    "no levels to take off": (encoded(BLOB, resolutions=1), {}),
    "another compression": (bytes(imagecodecs.jpegls_encode(BLOB)), {}),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_plain_is_decoded_whole(name: str) -> None:
    frame, attributes = ODD[name]
    syntax = uid.JPEGLSLossless if name == "another compression" else uid.JPEG2000Lossless
    file = radiograph(frame, syntax, **attributes)
    assert np.array_equal(read_grayscale(file, SufficientResolution(1, 1)).image, read_grayscale(file).image)


@pytest.mark.parametrize("absent", ["library", "decoder"])
def test_without_the_library_images_are_decoded_whole(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    from PIL import Image

    def missing(*_arguments: object, **_options: object) -> None:
        raise OSError("decoder jpeg2k not available")

    if absent == "library":
        monkeypatch.setitem(sys.modules, "PIL", None)
    else:
        monkeypatch.setattr(Image, "open", missing)
    file = radiograph(encoded(BLOB))
    shown = read_grayscale(file, ENOUGH)
    assert np.array_equal(shown.image, read_grayscale(file).image)
    assert shown.image.shape == (ROWS, COLUMNS)
    assert shown.record["resolution"] == "whole"


def test_lies_and_truncation_are_refused_at_a_lower_resolution_too() -> None:
    frame = encoded(BLOB)
    with pytest.raises(PixelsUnreadable, match="Rows x Columns is 203 x 184"):
        read_grayscale(radiograph(frame, Columns=184), ENOUGH)
    with pytest.raises(PixelsUnreadable, match="truncated"):
        read_grayscale(radiograph(frame[: len(frame) // 2]), ENOUGH)


def test_a_codestream_says_how_it_may_be_halved() -> None:
    assert wavelet_grid(encoded(BLOB)) == WaveletGrid(True, False, 1, 12, 4, True)
    assert wavelet_grid(encoded(BLOB, resolutions=3)) == WaveletGrid(True, False, 1, 12, 2, True)
    lossy = wavelet_grid(encoded(BLOB, reversible=False, level=40))
    assert lossy is not None
    assert not lossy.reversible
    for junk in (b"", b"\xff\x4f\xff\x51", encoded(BLOB)[:50], b"\xff\xd8\xff", b"\xff\x4f\xff\x51" + b"\0" * 60):
        assert wavelet_grid(junk) is None
    offset = bytearray(encoded(BLOB))
    offset[19] = 1  # XOsiz
    grid = wavelet_grid(bytes(offset))
    assert grid is not None
    assert not grid.at_origin


def test_the_real_radiograph_is_the_same_at_half_its_size() -> None:
    import cv2

    whole = read_grayscale(sample("RG1_J2KR")).image
    smaller = read_grayscale(sample("RG1_J2KR"), SufficientResolution(960, 896))
    assert smaller.image.shape == (978, 921)
    expected = cv2.resize(whole, (921, 978), interpolation=cv2.INTER_AREA)
    assert np.abs(expected - smaller.image).mean() * 255 < 0.6
    # and a shift of half a pixel would show
    assert np.abs(np.roll(whole, 1, axis=1)[:, 1:] - whole[:, 1:]).mean() * 255 > 0.6
