"""A file's header and pixels -> the image that is shown: tables by hand, then real radiographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_io.header.parsing import UnreadableDicom
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from tests.dicom_io.images import dicom_file, image_file, item, sequence
from tests.peers.radiographs import sample

ROW = np.array([[0, 64, 128, 255]], np.uint8)
DEEP = np.array([[0, 1024, 2048, 4095]], np.uint16)
EVERYWHERE = {(y, x) for y in range(4) for x in range(5)}
FULL8 = [0, 64 / 255, 128 / 255, 1]


def lut(
    first: tuple[str, object], entries: list[int] | bytes, bits: int, vr: str = "US", count: int | None = None
) -> object:
    """A LUT sequence of one item; `count` is the number of entries that it states."""
    descriptor = (first[0], [(len(entries) if count is None else count) % 65536, first[1], bits])
    data: object = entries if vr == "US" or isinstance(entries, bytes) else np.array(entries, "<u2").tobytes()
    return sequence(item(LUTDescriptor=descriptor, LUTData=(vr, data)))


# name, pixels, attributes -> brightness of the first row
HEADERS = [
    ("no window", ROW, {}, FULL8),
    ("no window, 12 bits", DEEP, {"BitsStored": 12}, [0, 1024 / 4095, 2048 / 4095, 1]),
    ("MONOCHROME1", ROW, {"PhotometricInterpretation": "MONOCHROME1"}, [1, 191 / 255, 127 / 255, 0]),
    (
        "MONOCHROME1 and INVERSE say the same once",
        ROW,
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        [1, 191 / 255, 127 / 255, 0],
    ),
    ("photometric before a contradicting shape", ROW, {"PresentationLUTShape": "INVERSE"}, FULL8),
    (
        "shape alone",
        ROW,
        {"PhotometricInterpretation": None, "PresentationLUTShape": "INVERSE"},
        [1, 191 / 255, 127 / 255, 0],
    ),
    ("window", ROW, {"WindowCenter": "128", "WindowWidth": "129"}, [0, 0.00390625, 0.50390625, 1]),
    ("first of two windows", ROW, {"WindowCenter": ["128", "0"], "WindowWidth": ["256", "2"]}, FULL8),
    ("second window where the first is bad", ROW, {"WindowCenter": ["", "128"], "WindowWidth": ["0", "256"]}, FULL8),
    ("width 0 falls back to the full range", ROW, {"WindowCenter": "5", "WindowWidth": "0"}, FULL8),
    ("text for a window falls back", ROW, {"WindowCenter": b"wide", "WindowWidth": b"open"}, FULL8),
    ("a window beside the data falls back", ROW, {"WindowCenter": "9000", "WindowWidth": "10"}, FULL8),
    ("empty function is LINEAR", ROW, {"WindowCenter": "128", "WindowWidth": "256", "VOILUTFunction": ""}, FULL8),
    (
        "LINEAR_EXACT",
        ROW,
        {"WindowCenter": "128", "WindowWidth": "256", "VOILUTFunction": "LINEAR_EXACT"},
        [0, 0.25, 0.5, 255 / 256],
    ),
    ("empty slope is 1", ROW, {"RescaleSlope": "", "RescaleIntercept": ""}, FULL8),
    ("slope 0 is 1", ROW, {"RescaleSlope": "0", "RescaleIntercept": "0"}, FULL8),
    (
        "slope before the window",
        ROW,
        {"RescaleSlope": "2", "RescaleIntercept": "-256", "WindowCenter": "0", "WindowWidth": "512"},
        [0, 128 / 511, 256 / 511, 510 / 511],
    ),
    (
        "VOI LUT wins over a window",
        ROW,
        {"VOILUTSequence": lut(("US", 0), [0, 255], 8), "WindowCenter": "1", "WindowWidth": "9"},
        [0, 1, 1, 1],
    ),
    ("VOI LUT of 256 x 16 bits", ROW, {"VOILUTSequence": lut(("US", 0), [257 * i for i in range(256)], 16)}, FULL8),
    ("VOI LUT as OW", ROW, {"VOILUTSequence": lut(("US", 0), [257 * i for i in range(256)], 16, "OW")}, FULL8),
    ("VOI LUT without data falls back", ROW, {"VOILUTSequence": lut(("US", 0), [], 8)}, FULL8),
    (
        "VOI LUT from a negative value on signed pixels",
        np.array([[-2, -1, 0, 1]], np.int16),
        {"VOILUTSequence": lut(("SS", -2), [0, 100, 200, 255], 8)},
        [0, 100 / 255, 200 / 255, 1],
    ),
    (
        "12-bit Modality LUT",
        DEEP,
        {"BitsStored": 12, "ModalityLUTSequence": lut(("US", 0), list(range(4096)), 12)},
        [0, 1024 / 4095, 2048 / 4095, 1],
    ),
    ("signed", np.array([[-128, 0, 127]], np.int8), {}, [0, 128 / 255, 1]),
    (
        "12 signed bits in 16",
        np.array([[-2048, 0, 2047]], np.int16) & 0x0FFF,
        {"BitsStored": 12, "PixelRepresentation": 1},
        [0, 2048 / 4095, 1],
    ),
    ("bits above BitsStored are masked", np.array([[0xF000, 0x0FFF]], np.uint16), {"BitsStored": 12}, [0, 1]),
    (
        "HighBit 15 of 12 bits",
        np.array([[0x0000, 0xFFF0, 0x8000]], np.uint16),
        {"BitsStored": 12, "HighBit": 15},
        [0, 1, 2048 / 4095],
    ),
    ("padding", ROW, {"PixelPaddingValue": ("US", 255)}, [0, 64 / 255, 128 / 255, 0]),
    (
        "padding of signed pixels written as unsigned",
        np.array([[-2000, 0]], np.int16),
        {"PixelPaddingValue": ("US", 63536)},
        [0, 32768 / 65535],
    ),
    (
        "padding range",
        ROW,
        {"PixelPaddingValue": ("US", 0), "PixelPaddingRangeLimit": ("US", 64)},
        [0, 0, 128 / 255, 1],
    ),
]


@pytest.mark.parametrize(("name", "pixels", "attributes", "expected"), HEADERS, ids=[row[0] for row in HEADERS])
def test_a_header_is_applied_as_computed_by_hand(
    name: str, pixels: np.ndarray, attributes: dict[str, object], expected: list[float]
) -> None:
    image = read_grayscale(image_file(pixels, **attributes)).image
    assert image[0].tolist() == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes_give_the_same_image(syntax: str) -> None:
    for pixels in (DEEP, np.array([[1, 2, 3], [4, 5, 6]], np.uint8)):
        same = read_grayscale(image_file(pixels)).image
        assert np.array_equal(read_grayscale(image_file(pixels, syntax)).image, same)


def test_what_was_chosen_and_skipped_is_recorded_and_flagged() -> None:
    bad = read_grayscale(image_file(ROW, WindowCenter="5", WindowWidth="0", PatientOrientation=["L", "F"]))
    assert bad.flags == ("window unusable",)
    assert bad.record["voi"] == "full range 0 to 255"
    assert bad.record["voi_fallback"] == "window center 5 width 0 unusable"
    two = read_grayscale(image_file(ROW, WindowCenter=["128", "1"], WindowWidth=["256", "2"]))
    assert two.record["voi"] == "window 1 of 2: center 128 width 256 LINEAR"
    assert two.flags == ("orientation unknown",)
    contradiction = read_grayscale(image_file(ROW, PresentationLUTShape="INVERSE"))
    assert "PhotometricInterpretation and PresentationLUTShape disagree" in contradiction.flags


# Stored pixels a b / c d / e f; what must come out with rows to the left and columns to the feet
ORIENTATIONS = [
    (["L", "F"], "ab/cd/ef"),
    (["R", "F"], "ba/dc/fe"),
    (["L", "H"], "ef/cd/ab"),
    (["R", "H"], "fe/dc/ba"),
    (["F", "L"], "ace/bdf"),
    (["F", "R"], "eca/fdb"),
    (["H", "L"], "bdf/ace"),
    (["H", "R"], "fdb/eca"),
    (["LF", "FR"], "ab/cd/ef"),
]


@pytest.mark.parametrize(("orientation", "expected"), ORIENTATIONS)
def test_every_orientation_is_brought_to_hang(orientation: list[str], expected: str) -> None:
    pixels = np.frombuffer(b"abcdef", np.uint8).reshape(3, 2)
    shown = read_grayscale(image_file(pixels, PatientOrientation=orientation, PixelSpacing=["0.2", "0.2"]))
    values = np.rint(shown.image * 255).astype(np.uint8)
    assert "/".join(row.tobytes().decode() for row in values) == expected
    assert shown.patient_orientation == "L\\F"
    assert shown.flags == ()
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            stored_x, stored_y = shown.to_stored @ (x, y, 1)
            assert pixels[int(stored_y), int(stored_x)] == values[y, x]


@pytest.mark.parametrize("orientation", [None, [], ["L"], ["A", "F"], ["L", "R"], ["?", "!"]])
def test_an_orientation_that_is_not_frontal_is_left_and_flagged(orientation: list[str] | None) -> None:
    shown = read_grayscale(image_file(ROW, PatientOrientation=orientation))
    assert shown.image[0].tolist() == pytest.approx(FULL8)
    assert shown.flags == ("orientation unknown",)


@pytest.mark.parametrize(
    ("attributes", "shape", "spacing"),
    [
        ({"PixelSpacing": ["0.4", "0.2"]}, (8, 6), (0.2, 0.2)),
        ({"PixelSpacing": ["0.1", "0.2"]}, (4, 12), (0.1, 0.1)),
        ({"PixelSpacing": ["0", "0"], "ImagerPixelSpacing": ["0.3", "0.1"]}, (12, 6), None),
        ({"PixelAspectRatio": ["2", "1"]}, (8, 6), None),
        ({"PixelSpacing": ["1.2", "1.2012"]}, (4, 6), (1.2, 1.2012)),
        ({"PixelSpacing": ["1000", "0.1"]}, (4, 6), (1000, 0.1)),
        ({}, (4, 6), None),
    ],
)
def test_pixels_become_square_and_their_spacing_follows(
    attributes: dict[str, object], shape: tuple[int, int], spacing: tuple[float, float] | None
) -> None:
    shown = read_grayscale(image_file(np.full((4, 6), 9, np.uint8), **attributes))
    assert shown.image.shape == shape
    assert shown.pixel_spacing == (None if spacing is None else pytest.approx(spacing))
    centre = shown.to_stored @ ((shape[1] - 1) / 2, (shape[0] - 1) / 2, 1)
    assert centre == pytest.approx((2.5, 1.5))


@pytest.mark.parametrize(
    ("attributes", "open_pixels"),
    [
        (
            {
                "ShutterShape": "RECTANGULAR",
                "ShutterLeftVerticalEdge": "2",
                "ShutterRightVerticalEdge": "3",
                "ShutterUpperHorizontalEdge": "1",
                "ShutterLowerHorizontalEdge": "2",
            },
            {(0, 1), (0, 2), (1, 1), (1, 2)},
        ),
        (
            {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": ["2", "3"], "RadiusOfCircularShutter": "1"},
            {(1, 2), (0, 2), (2, 2), (1, 1), (1, 3)},
        ),
        (
            {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": ["1", "1", "1", "2", "2", "2", "2", "1"]},
            {(0, 0), (0, 1), (1, 0), (1, 1)},
        ),
        (
            {
                "ShutterShape": ["RECTANGULAR", "POLYGONAL"],  # the polygon has no vertices
                "ShutterLeftVerticalEdge": "2",
                "ShutterRightVerticalEdge": "3",
                "ShutterUpperHorizontalEdge": "1",
                "ShutterLowerHorizontalEdge": "1",
            },
            {(0, 1), (0, 2)},
        ),
        ({"ShutterShape": "BITMAP"}, EVERYWHERE),
        ({"ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": b"x"}, EVERYWHERE),
    ],
)
def test_outside_a_shutter_is_background(attributes: dict[str, object], open_pixels: set[tuple[int, int]]) -> None:
    white = image_file(np.zeros((4, 5), np.uint8), PhotometricInterpretation="MONOCHROME1", **attributes)
    image = read_grayscale(white).image
    assert {(int(y), int(x)) for y, x in np.argwhere(image == 1)} == open_pixels
    assert set(np.unique(image)) <= {0.0, 1.0}


def test_a_shutter_that_cannot_be_read_is_flagged() -> None:
    for attributes in ({"ShutterShape": "BITMAP"}, {"ShutterShape": ["BITMAP", "CIRCULAR"]}):
        assert "shutter unusable" in read_grayscale(image_file(ROW, **attributes)).flags


@pytest.mark.parametrize(("photometric", "center"), [("MONOCHROME1", "9000"), ("MONOCHROME2", "-9000")])
def test_a_window_that_shows_nothing_but_padding_is_no_window(photometric: str, center: str) -> None:
    """Padding is black whatever the window: beside it an image that is white all over seemed to show something."""
    row = np.array([[0, 100, 200, 255]], np.uint8)
    shown = read_grayscale(
        image_file(
            row, PhotometricInterpretation=photometric, PixelPaddingValue=0, WindowCenter=center, WindowWidth="10"
        )
    )
    assert "window unusable" in shown.flags
    expected = [0, 155 / 255, 55 / 255, 0] if photometric == "MONOCHROME1" else [0, 100 / 255, 200 / 255, 1]
    assert shown.image[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"PixelData": None, "Rows": 1, "Columns": 4}, "PixelData is missing"),
        ({"Rows": 0, "Columns": 4}, "Rows is 0 and Columns is 4"),
        ({"Rows": 2, "Columns": 4}, "Rows x Columns is 2 x 4, which is 8 bytes, but PixelData holds 4 bytes"),
        ({"Rows": 1, "Columns": 2}, "Rows x Columns is 1 x 2, which is 2 bytes, but PixelData holds 4 bytes"),
        ({"Rows": 60000, "Columns": 60000}, "Rows x Columns is 60000 x 60000: more than 100000000"),
        ({"NumberOfFrames": "3"}, "NumberOfFrames is 3"),
        ({"NumberOfFrames": "-1"}, "NumberOfFrames is -1"),
        ({"SamplesPerPixel": 4}, "SamplesPerPixel is 4"),
        ({"BitsAllocated": 12}, "BitsAllocated is 12"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PhotometricInterpretation is PALETTE COLOR"),
    ],
)
def test_pixels_that_contradict_their_description_are_refused_with_both_numbers(
    attributes: dict[str, object], reason: str
) -> None:
    if "PixelData" in attributes:
        data = dicom_file(**attributes)
    else:
        data = image_file(ROW, **{"Rows": 1, "Columns": 4, **attributes})
    with pytest.raises(PixelsUnreadable, match=reason):
        read_grayscale(data)


def test_text_is_not_dicom(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague, the radiograph of Mrs Smith ...")
    with pytest.raises(UnreadableDicom) as refusal:
        read_grayscale(tmp_path / "letter.txt")
    assert "Smith" not in refusal.value.reason


@pytest.mark.parametrize("planar", [0, 1])
def test_gray_stored_as_colour_is_read_and_colour_is_not(planar: int) -> None:
    gray = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    bright = read_grayscale(colour_file(gray, planar)).image
    assert np.array_equal(np.rint(bright * 255), gray[:, :, 0])
    red = gray.copy()
    red[0, 0, 0] = 200
    with pytest.raises(PixelsUnreadable, match="differ by up to 200: a colour image"):
        read_grayscale(colour_file(red, planar))


def colour_file(pixels: np.ndarray, planar: int, **attributes: object) -> bytes:
    data = (pixels.transpose(2, 0, 1) if planar else pixels).tobytes()
    return image_file(
        data,
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        SamplesPerPixel=3,
        PlanarConfiguration=planar,
        PhotometricInterpretation="RGB",
        BitsAllocated=8,
        **attributes,
    )


def test_rg1_is_the_chest_that_was_measured() -> None:
    shown = read_grayscale(sample("RG1_UNCR"))
    assert shown.image.shape == (1955, 1841)
    assert shown.image.min() == pytest.approx(0.117, abs=5e-4)
    assert shown.image.max() == pytest.approx(0.971, abs=5e-4)
    assert shown.image.mean() == pytest.approx(0.754, abs=5e-4)
    assert shown.pixel_spacing is None  # 0\0 in the header
    assert shown.flags == ()
    assert np.array_equal(read_grayscale(sample("RG1_J2KR")).image, shown.image)


def test_rg3_is_flipped_to_hang_and_its_border_is_white() -> None:
    shown = read_grayscale(sample("RG3_UNCR"))
    assert shown.to_stored.tolist() == [[-1, 0, 1759], [0, 1, 0]]
    assert shown.image[900, 5] == 1
    assert shown.patient_orientation == "L\\F"


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "shape", "flags", "mean"),
    [
        ("highdicom_dx_dog_thorax.dcm", (169, 211), (), 0.3497),
        ("fodicom_CR-MONO1-10-chest_no_meta.dcm", (440, 440), ("orientation unknown",), 0.5466),
        ("wg04_RG2_hip_JPLL.dcm", (2140, 1760), ("orientation unknown",), 0.4412),
        ("wg04_RG1_chest_J2KI.dcm", (1955, 1841), (), 0.7536),
        ("wg04_RG1_chest_JLSN.dcm", (1955, 1841), (), 0.7536),
        ("wg04_RG3_extremity_JPLY.dcm", (1760, 1760), (), 0.6959),
    ],
)
def test_each_shared_radiograph_is_read_as_it_was_inspected(
    shared_data: Path, name: str, shape: tuple[int, int], flags: tuple[str, ...], mean: float
) -> None:
    shown = read_grayscale(shared_data / "dicom" / name)
    assert (shown.image.shape, shown.flags) == (shape, flags)
    assert shown.image.mean() == pytest.approx(mean, abs=2e-4)
