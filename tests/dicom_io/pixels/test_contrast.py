"""LUTs and windows that would hide an image, by hand; `test_against_dcmtk.py` compares with DCMTK."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_io.pixels.grayscale import read_grayscale
from dicom_io.pixels.image_pixel_module import PixelsUnreadable
from tests.dicom_io.images import image_file
from tests.dicom_io.pixels.test_grayscale import lut

RAMP12 = np.arange(4096, dtype=np.uint16).reshape(64, 64)
LINE = RAMP12 / 4095
GAMMA = [round(4095 * (i / 4095) ** 0.5) for i in range(4096)]
CURVE = np.array(GAMMA)[RAMP12] / 4095
WINDOW = {"WindowCenter": "2048", "WindowWidth": "4096"}


def shown(pixels: np.ndarray = RAMP12, **attributes: object) -> tuple[np.ndarray, set[str], dict[str, str]]:
    read = read_grayscale(image_file(pixels, PatientOrientation=["L", "F"], **attributes))
    return read.image, set(read.flags), read.record


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("stated", [12, 13, 14, 15, 16, 0, 4096])
def test_the_range_of_a_lut_is_that_of_its_entries(sequence: str, photometric: str, stated: int) -> None:
    image, flags, record = shown(
        BitsStored=12, PhotometricInterpretation=photometric, **{sequence: lut(("US", 0), GAMMA, stated)}
    )
    assert image == pytest.approx(1 - CURVE if photometric == "MONOCHROME1" else CURVE, abs=1e-6)
    assert flags == set()
    said = "4096 entries from 0, 12 bits" + ("" if stated == 12 else f" (descriptor: {stated})")
    assert said in record["voi" if sequence == "VOILUTSequence" else "modality"]


def test_entries_that_overshoot_the_bits_of_their_lut_are_white_and_do_not_halve_the_rest() -> None:
    entries = [*range(4090), *(4096 for _ in range(6))]
    image, _, record = shown(BitsStored=12, VOILUTSequence=lut(("US", 0), entries, 12))
    assert image == pytest.approx(np.minimum(np.array(entries), 4095)[RAMP12] / 4095, abs=1e-6)
    assert record["voi"] == "LUT 1 of 1: 4096 entries from 0, 12 bits"
    image, _, record = shown(BitsStored=12, VOILUTSequence=lut(("US", 0), GAMMA, 8))
    assert image == pytest.approx(CURVE, abs=1e-6), "a descriptor of 8 bits over entries of 12 is wrong"
    assert record["voi"] == "LUT 1 of 1: 4096 entries from 0, 12 bits (descriptor: 8)"


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("words", [0, 1, 2047, 2049, 3000, 4095])
def test_a_lut_of_fewer_entries_than_it_states_is_unusable(words: int, bits: int) -> None:
    entries = [value >> (12 - min(bits, 12)) for value in GAMMA[:words]]
    short = lut(("US", 0), entries, bits, "OW", 4096)
    image, flags, record = shown(BitsStored=12, VOILUTSequence=short, **WINDOW)
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"VOI LUT unusable"}
    assert record["voi"] == "window 1 of 1: center 2048 width 4096 LINEAR"
    assert record["voi_fallback"] == (
        f"VOI LUT 1 of 1 unusable: LUTDescriptor states 4096 entries, LUTData holds {2 * words} bytes"
    )
    image, flags, record = shown(BitsStored=12, ModalityLUTSequence=short)
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"Modality LUT unusable"}
    assert record["modality"] == "rescale 1 0"


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_half_a_lut_is_not_taken_for_bytes(bits: int) -> None:
    half = lut(("US", 0), GAMMA[:2048], bits, "OW", 4096)
    image, flags, _ = shown(BitsStored=12, VOILUTSequence=half, **WINDOW)
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"VOI LUT unusable"}


@pytest.mark.parametrize("stated", [8, 12, 16])
@pytest.mark.parametrize("count", [4096, 4095])
def test_as_many_bytes_as_entries_are_entries(count: int, stated: int) -> None:
    curve = bytes(value // 16 for value in GAMMA[:count])
    image, flags, _ = shown(
        BitsStored=12, VOILUTSequence=lut(("US", 0), curve + b"\0" * (count % 2), stated, "OW", count)
    )
    expected = np.array([*curve, curve[-1]])[RAMP12] / 255
    assert image == pytest.approx(expected, abs=1e-6)
    assert flags == set()


def test_the_second_lut_is_used_where_the_first_cannot_be() -> None:
    luts = lut(("US", 0), GAMMA[:3000], 12, "OW", 4096)
    luts.extend(lut(("US", 0), GAMMA, 12))  # type: ignore[attr-defined]
    image, flags, record = shown(BitsStored=12, VOILUTSequence=luts)
    assert image == pytest.approx(CURVE, abs=1e-6)
    assert flags == {"VOI LUT unusable"}
    assert record["voi"].startswith("LUT 2 of 2")


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("what", ["cut short", "shows nothing"])
def test_an_unusable_lut_that_inverts_the_image_is_refused_and_no_window_shows_the_negative(
    sequence: str, what: str
) -> None:
    falling = [4095 - value for value in GAMMA[:3000]] if what == "cut short" else [1, *([0] * 4095)]
    with pytest.raises(PixelsUnreadable, match="it inverts the image"):
        shown(BitsStored=12, **{sequence: lut(("US", 0), falling, 12, "OW", 4096)}, **WINDOW)


def test_an_unusable_lut_that_inverts_is_no_matter_where_the_next_is_usable() -> None:
    luts = lut(("US", 0), [4095 - value for value in GAMMA[:3000]], 12, "OW", 4096)
    luts.extend(lut(("US", 0), [4095 - value for value in GAMMA], 12))  # type: ignore[attr-defined]
    image, flags, _ = shown(BitsStored=12, VOILUTSequence=luts)
    assert image == pytest.approx(1 - CURVE, abs=1e-6)
    assert flags == {"VOI LUT unusable"}


# pixels, attributes -> stored values of black and white, number of bits occupied
TOO_WIDE = [
    (RAMP12, {}, (0, 4095), 12),
    (RAMP12, {"BitsStored": 14}, (0, 4095), 12),
    (RAMP12 // 4, {"BitsStored": 12}, (0, 1023), 10),
    (RAMP12 * 4, {}, (0, 16383), 14),
    (RAMP12.astype(np.int16) - 2048, {}, (-2048, 2047), 12),
    (RAMP12.astype(np.int16), {}, (0, 4095), 12),
    (RAMP12, {"SmallestImagePixelValue": ("US", 0), "LargestImagePixelValue": ("US", 65535)}, (0, 4095), 12),
]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("pixels", "attributes", "ends", "bits"), TOO_WIDE)
def test_without_a_window_the_occupied_bits_are_shown_where_nothing_exceeds_a_quarter_of_the_range(
    pixels: np.ndarray, attributes: dict[str, object], ends: tuple[int, int], bits: int, photometric: str
) -> None:
    image, flags, record = shown(pixels, PhotometricInterpretation=photometric, **attributes)
    expected = (pixels.astype(float) - ends[0]) / (ends[1] - ends[0])
    assert image == pytest.approx(1 - expected if photometric == "MONOCHROME1" else expected, abs=1e-6)
    stored = attributes.get("BitsStored", 16)
    assert flags == {f"no usable window: {bits} of {stored} bits occupied"}
    assert f"range of the {bits} occupied bits {ends[0]} to {ends[1]}" in record["voi"]
    bright = read_grayscale(image_file(pixels, **attributes, RescaleSlope="2", RescaleIntercept="-1000")).image
    assert bright == pytest.approx(expected, abs=1e-6), "a rescale changes nothing of it"


def test_a_few_dead_pixels_do_not_hide_the_image() -> None:
    pixels = RAMP12.copy()
    pixels[0, :2] = 65535
    image, flags, _ = shown(pixels)
    assert image == pytest.approx(np.minimum(pixels / 4095, 1), abs=1e-6)
    assert flags == {"no usable window: 12 of 16 bits occupied"}


@pytest.mark.parametrize(
    "pixels",
    [RAMP12 * 16, RAMP12 * 5, np.full((64, 64), 9, np.uint16), np.zeros((64, 64), np.uint16), RAMP12.astype(np.uint8)],
)
def test_a_range_that_fits_or_nothing_to_see_is_left_as_it_is(pixels: np.ndarray) -> None:
    image, flags, record = shown(pixels)
    highest = np.iinfo(pixels.dtype).max
    assert image == pytest.approx(pixels / highest, abs=1e-6)
    assert flags == set()
    assert record["voi"] == f"full range 0 to {highest}"


def test_a_dark_image_of_8_bits_is_dark() -> None:
    pixels = (RAMP12 // 100).astype(np.uint8)
    image, flags, _ = shown(pixels)
    assert image == pytest.approx(pixels / 255, abs=1e-6)
    assert flags == set()
    assert shown(pixels.astype(np.uint16))[0] == pytest.approx(pixels / 255, abs=1e-6), "no more than 8 bits' worth"


def test_smallest_and_largest_value_are_the_range_where_there_is_no_window() -> None:
    pixels = 1000 + 3 * RAMP12
    ends = {"SmallestImagePixelValue": ("US", 1000), "LargestImagePixelValue": ("US", 13285)}
    image, flags, record = shown(pixels, **ends)
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == set()
    assert record["voi"] == "range of Smallest and Largest Image Pixel Value 1000 to 13285"
    windowed, _, record = shown(pixels, **ends, WindowCenter="8192", WindowWidth="16384")
    assert windowed == pytest.approx((pixels - 8191.5) / 16383 + 0.5, abs=1e-6)
    assert record["voi"].startswith("window")


@pytest.mark.parametrize(
    ("smallest", "largest"),
    [(0, 0), (4095, 0), (2000, 2100), (0, 70000), (0, 255), ("", 4095), (None, 4095), (0, None)],
)
def test_an_implausible_smallest_or_largest_value_is_not_used(smallest: object, largest: object) -> None:
    said = {
        keyword: ("US" if isinstance(value, int) and value < 65536 else "LO", value if value != 70000 else "70000")
        for keyword, value in (("SmallestImagePixelValue", smallest), ("LargestImagePixelValue", largest))
        if value is not None
    }
    image, flags, record = shown(BitsStored=12, **said)
    assert image == pytest.approx(LINE, abs=1e-6)
    assert record["voi"] == "full range 0 to 4095"
    assert flags == set()


def test_the_noise_of_a_blank_image_does_not_fill_the_range() -> None:
    noise = (1000 + np.random.default_rng(1).integers(0, 11, (64, 64))).astype(np.uint16)
    ends = {"SmallestImagePixelValue": ("US", 1000), "LargestImagePixelValue": ("US", 1010)}
    image, flags, record = shown(noise, BitsStored=12, **ends)
    assert image == pytest.approx(noise / 1023, abs=1e-6)
    assert flags == {"no usable window: 10 of 12 bits occupied"}
    assert "Smallest" not in record["voi"]


def test_smallest_and_largest_value_of_signed_pixels_written_as_unsigned() -> None:
    image, _, record = shown(
        3 * (RAMP12.astype(np.int16) - 2048),
        SmallestImagePixelValue=("US", 65536 - 6144),
        LargestImagePixelValue=("US", 6141),
    )
    assert image == pytest.approx(LINE, abs=1e-6)
    assert record["voi"].endswith("-6144 to 6141")


HIDING = {
    "far above": {"WindowCenter": "60000", "WindowWidth": "1000"},
    "far below": {"WindowCenter": "-5000", "WindowWidth": "100"},
    "all but one pixel": {"WindowCenter": "4095", "WindowWidth": "1"},
    "far too wide": {"WindowCenter": "32768", "WindowWidth": "2000000"},
    "exact": {"WindowCenter": "9000", "WindowWidth": "1", "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": "90000", "WindowWidth": "100", "VOILUTFunction": "SIGMOID"},
    "LUT": {"VOILUTSequence": lut(("US", 0), [*range(3200), *([3200] * 895), 65535], 16)},
    "LUT of one value": {"VOILUTSequence": lut(("US", 0), [100] * 4096, 12)},
}


@pytest.mark.parametrize("name", HIDING)
def test_what_shows_nothing_of_an_image_is_unusable_and_said_to_be(name: str) -> None:
    image, flags, record = shown(BitsStored=12, **HIDING[name])
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"VOI LUT unusable" if "LUT" in name else "window unusable"}
    assert record["voi_fallback"].endswith("shows nothing: 99 % of the pixels come out within 5 % of the range")


@pytest.mark.parametrize("first", [5000, 60000])
def test_a_modality_lut_that_makes_one_value_of_the_image_is_unusable(first: int) -> None:
    image, flags, record = shown(BitsStored=12, ModalityLUTSequence=lut(("US", first), GAMMA, 12), **WINDOW)
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"Modality LUT unusable"}
    assert record["modality_fallback"].endswith("show nothing: 99 % of the pixels become one value")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_over_16_bits_does_not_show_12(photometric: str) -> None:
    over_all = {"WindowCenter": "32768", "WindowWidth": "65536", "PhotometricInterpretation": photometric}
    image, flags, record = shown(BitsStored=16, **over_all)
    assert image == pytest.approx(1 - LINE if photometric == "MONOCHROME1" else LINE, abs=1e-6)
    assert flags == {"window unusable", "no usable window: 12 of 16 bits occupied"}
    assert record["voi_fallback"].endswith("shows nothing: 99.9 % of the pixels come out within 6.7 % of the range")
    image, flags, _ = shown(2 * RAMP12, BitsStored=16, **over_all)
    assert flags == set(), "13 bits"


def test_the_next_window_is_used_where_the_first_shows_nothing() -> None:
    image, flags, record = shown(BitsStored=12, WindowCenter=["60000", "2048"], WindowWidth=["10", "4096"])
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"window unusable"}
    assert record["voi"] == "window 2 of 2: center 2048 width 4096 LINEAR"
    beside = lut(("US", 50000), GAMMA, 12)
    image, flags, record = shown(BitsStored=12, VOILUTSequence=beside, **WINDOW)
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"VOI LUT unusable"}


def test_an_image_without_contrast_is_no_fault_of_its_window() -> None:
    noise = (2000 + np.random.default_rng(1).integers(-20, 20, (64, 64))).astype(np.uint16)
    image, flags, _ = shown(noise, BitsStored=12, **WINDOW)
    assert flags == set()
    assert image == pytest.approx((noise - 2047.5) / 4095 + 0.5, abs=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_a_border_of_the_highest_value_does_not_hide_the_image(signed: bool) -> None:
    pixels = (RAMP12.astype(np.int64) - (2048 if signed else 0)).astype(np.int16 if signed else np.uint16)
    border = np.iinfo(pixels.dtype).max
    pixels[:20], pixels[20:22] = border, border if not signed else np.iinfo(pixels.dtype).min
    image, flags, _ = shown(pixels)
    assert image[22:] == pytest.approx(LINE[22:], abs=1e-6)
    assert (image[:20] == 1).all()
    assert flags == {"no usable window: 12 of 16 bits occupied"}


def test_an_image_that_is_padding_all_over_is_black() -> None:
    image, flags, _ = shown(np.full((64, 64), 7, np.uint16), PixelPaddingValue=("US", 7), **WINDOW)
    assert not image.any()
    assert flags == set()


@pytest.mark.parametrize("kind", ["u4", "i4"])
def test_12_bits_stored_as_32(kind: str) -> None:
    image, flags, _ = shown(RAMP12.astype(kind) - (2048 if kind == "i4" else 0))
    assert image == pytest.approx(LINE, abs=1e-6)
    assert flags == {"no usable window: 12 of 32 bits occupied"}


def test_padding_says_nothing_about_the_range() -> None:
    pixels = RAMP12.copy()
    pixels[:20] = 65535
    image, flags, _ = shown(pixels, PixelPaddingValue=("US", 65535))
    assert image[20:] == pytest.approx(LINE[20:], abs=1e-6)
    assert not image[:20].any()
    assert flags == {"no usable window: 12 of 16 bits occupied"}
