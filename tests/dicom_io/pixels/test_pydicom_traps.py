"""Where pydicom's own functions show a radiograph wrongly or not at all, and what is shown here instead.

Each row says both: what pydicom does (should a later version mend it, the row says so by failing), and the brightness
computed by hand from the standard.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_modality_lut, apply_presentation_lut, apply_voi_lut

from dicom_io.pixels.grayscale import read_grayscale
from tests.dicom_io.images import image_file
from tests.dicom_io.pixels.test_grayscale import DEEP, ROW, colour_file, lut

FULL = [0, 64 / 255, 128 / 255, 1]
SHORT_ROW = np.array([[0, 1, 2, 3]], np.uint16)
GRAY = np.repeat(np.array([[0, 64, 128, 255]], np.uint8)[:, :, np.newaxis], 3, axis=2)


def voi(radiograph: Dataset) -> np.ndarray:
    return apply_voi_lut(radiograph.pixel_array, radiograph)


def modality(radiograph: Dataset) -> np.ndarray:
    return apply_modality_lut(radiograph.pixel_array, radiograph)


def presentation(radiograph: Dataset) -> np.ndarray:
    return apply_presentation_lut(radiograph.pixel_array, radiograph)


def stored(radiograph: Dataset) -> np.ndarray:
    return radiograph.pixel_array


@dataclass(frozen=True)
class Trap:
    """A radiograph, what pydicom makes of its first row (or raises), and the brightness by hand."""

    data: bytes
    pydicom: Callable[[Dataset], np.ndarray]
    theirs: list[float] | type[Exception]
    brightness: list[float]


TRAPS = {
    "a VOI LUT of 4096 entries with 8-bit output is 16 times too dark": Trap(
        image_file(DEEP, BitsStored=12, VOILUTSequence=lut(("US", 0), [i // 16 for i in range(4096)], 8)),
        voi,
        [0, 0, 0, 15],
        [0, 64 / 255, 128 / 255, 1],
    ),
    "a Modality LUT of 12 bits raises": Trap(
        image_file(DEEP, BitsStored=12, ModalityLUTSequence=lut(("US", 0), list(range(4096)), 12)),
        modality,
        TypeError,
        [0, 1024 / 4095, 2048 / 4095, 1],
    ),
    "a VOI LUT that begins below zero raises on unsigned pixels": Trap(
        image_file(SHORT_ROW, VOILUTSequence=lut(("SS", -2), [0, 51, 102, 153, 204, 255], 8)),
        voi,
        OverflowError,
        [102 / 255, 153 / 255, 204 / 255, 1],
    ),
    "a window of width 0 raises": Trap(image_file(ROW, WindowCenter="5", WindowWidth="0"), voi, ValueError, FULL),
    "an empty VOILUTFunction raises": Trap(
        image_file(ROW, WindowCenter="128", WindowWidth="256", VOILUTFunction=""), voi, ValueError, FULL
    ),
    "an empty RescaleSlope raises": Trap(
        image_file(ROW, RescaleSlope="", RescaleIntercept=""), modality, TypeError, FULL
    ),
    "gray in RGB with a window raises": Trap(
        colour_file(GRAY, 0, WindowCenter="128", WindowWidth="256"), voi, ValueError, FULL
    ),
    "MONOCHROME1 is not inverted": Trap(
        image_file(ROW, PhotometricInterpretation="MONOCHROME1"), voi, [0, 64, 128, 255], [1, 191 / 255, 127 / 255, 0]
    ),
    "INVERSE depends on the image's own greatest value": Trap(
        image_file(
            np.array([[10, 20, 30]], np.uint8),
            PhotometricInterpretation="MONOCHROME1",
            PresentationLUTShape="INVERSE",
        ),
        presentation,
        [20, 10, 0],
        [245 / 255, 235 / 255, 225 / 255],
    ),
    "HighBit is not looked at": Trap(
        image_file(np.array([[0, 0x7FF0, 0xFFF0]], np.uint16), BitsStored=12, HighBit=15),
        stored,
        [0, 0xFF0, 0xFF0],
        [0, 0x7FF / 0xFFF, 1],
    ),
    "padding is windowed like anatomy": Trap(
        image_file(ROW, PixelPaddingValue=("US", 255), WindowCenter="128", WindowWidth="256"),
        voi,
        [0, 64, 128, 255],
        [0, 64 / 255, 128 / 255, 0],
    ),
    "pixels behind a shutter are shown": Trap(
        image_file(
            ROW,
            ShutterShape="RECTANGULAR",
            ShutterLeftVerticalEdge="1",
            ShutterRightVerticalEdge="3",
            ShutterUpperHorizontalEdge="1",
            ShutterLowerHorizontalEdge="1",
        ),
        voi,
        [0, 64, 128, 255],
        [0, 64 / 255, 128 / 255, 0],
    ),
    "a radiograph stored right to left is shown mirrored": Trap(
        image_file(ROW, PatientOrientation=["R", "F"]), voi, [0, 64, 128, 255], [1, 128 / 255, 64 / 255, 0]
    ),
    "without a window values stay as wide as they are": Trap(
        image_file(ROW, RescaleSlope="2", RescaleIntercept="-256"),
        lambda radiograph: apply_voi_lut(modality(radiograph), radiograph),
        [-256, -128, 0, 254],
        FULL,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trap", TRAPS.values(), ids=[re.sub(r"\W+", "-", name) for name in TRAPS])
def test_what_pydicom_shows_wrongly_is_shown_as_the_standard_says(trap: Trap) -> None:
    radiograph = dcmread(BytesIO(trap.data))
    if isinstance(trap.theirs, list):
        assert np.asarray(trap.pydicom(radiograph)).reshape(-1).tolist() == trap.theirs
    else:
        with pytest.raises(trap.theirs):
            trap.pydicom(radiograph)
    assert read_grayscale(trap.data).image[0].tolist() == pytest.approx(trap.brightness, abs=1e-6)


def test_a_rendering_must_not_depend_on_what_else_is_in_the_radiograph() -> None:
    """The same stored value, beside different others: pydicom's INVERSE gives two values for it, here it is one."""
    theirs, ours = [], []
    for other in (30, 200):
        pixels = np.array([[10, other]], np.uint8)
        data = image_file(pixels, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
        theirs.append(int(presentation(dcmread(BytesIO(data)))[0, 0]))
        ours.append(float(read_grayscale(data).image[0, 0]))
    assert theirs[0] != theirs[1]
    assert ours[0] == ours[1]
