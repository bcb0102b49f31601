"""DCMTK as an independent judge of brightness: dcmj2pnm and dcml2pnm render the same files to 8 bits.

The mean difference is under one gray level of 255 wherever DCMTK applies the same rules; a table says where it does
not, and why, and the test holds that too.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from dicom_io.pixels.grayscale import Grayscale, read_grayscale
from tests.dicom_io.images import image_file
from tests.dicom_io.pixels.test_grayscale import lut
from tests.peers.programs import require_peer
from tests.peers.radiographs import sample

pytestmark = pytest.mark.peer

RAMP8 = np.arange(4096, dtype=np.uint16).reshape(64, 64).astype(np.uint8)
RAMP12 = np.arange(4096, dtype=np.uint16).reshape(64, 64)
SIGNED12 = RAMP12.astype(np.int16) - 2048
GAMMA = [round(4095 * (i / 4095) ** 0.5) for i in range(4096)]
WINDOW = {"WindowCenter": "1500", "WindowWidth": "2000"}
FIRST_WINDOW, FIRST_LUT = ("+Wi", "1"), ("+Wl", "1")

# rule -> pixels, attributes, the options of dcmj2pnm
SAME_RULES: dict[str, tuple[np.ndarray, dict[str, object], tuple[str, ...]]] = {
    "8 bits, no window": (RAMP8, {}, ()),
    "12 of 16 bits, no window": (RAMP12, {"BitsStored": 12}, ()),
    "16 bits, no window": (RAMP12 * 16, {}, ()),
    "signed, no window": (SIGNED12 & 0xFFF, {"BitsStored": 12, "PixelRepresentation": 1}, ()),
    "MONOCHROME1": (RAMP12, {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"}, ()),
    "HighBit 15 of 12 bits": (RAMP12 << 4, {"BitsStored": 12, "HighBit": 15}, ()),
    "bits above BitsStored": (RAMP12 | 0xA000, {"BitsStored": 12}, ()),
    "rescale": (RAMP12, {"BitsStored": 12, "RescaleSlope": "2", "RescaleIntercept": "-1000"}, ()),
    "window": (RAMP12, {"BitsStored": 12, **WINDOW}, FIRST_WINDOW),
    "window of 8 bits": (RAMP8, {"WindowCenter": "100", "WindowWidth": "50"}, FIRST_WINDOW),
    "narrow window": (RAMP12, {"BitsStored": 12, "WindowCenter": "2000", "WindowWidth": "3"}, FIRST_WINDOW),
    "window of MONOCHROME1": (
        RAMP12,
        {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1", **WINDOW},
        FIRST_WINDOW,
    ),
    "window after rescale": (
        RAMP12,
        {
            "BitsStored": 12,
            "RescaleSlope": "0.5",
            "RescaleIntercept": "-1024",
            "WindowCenter": "0",
            "WindowWidth": "999",
        },
        FIRST_WINDOW,
    ),
    "window of signed": (
        SIGNED12 & 0xFFF,
        {"BitsStored": 12, "PixelRepresentation": 1, "WindowCenter": "-500", "WindowWidth": "1500"},
        FIRST_WINDOW,
    ),
    "SIGMOID": (RAMP12, {"BitsStored": 12, "VOILUTFunction": "SIGMOID", **WINDOW}, FIRST_WINDOW),
    "VOI LUT of 12 bits": (RAMP12, {"BitsStored": 12, "VOILUTSequence": lut(("US", 0), GAMMA, 12)}, FIRST_LUT),
    "VOI LUT of 16 bits": (
        RAMP12,
        {"BitsStored": 12, "VOILUTSequence": lut(("US", 0), [16 * value for value in GAMMA], 16)},
        FIRST_LUT,
    ),
    "VOI LUT of 8 bits": (
        RAMP12,
        {"BitsStored": 12, "VOILUTSequence": lut(("US", 0), [value // 16 for value in GAMMA], 8)},
        FIRST_LUT,
    ),
    "VOI LUT of MONOCHROME1": (
        RAMP12,
        {
            "BitsStored": 12,
            "PhotometricInterpretation": "MONOCHROME1",
            "VOILUTSequence": lut(("US", 0), GAMMA, 12),
        },
        FIRST_LUT,
    ),
    "VOI LUT from a negative value": (
        SIGNED12 & 0xFFF,
        {"BitsStored": 12, "PixelRepresentation": 1, "VOILUTSequence": lut(("SS", -2048), GAMMA, 12)},
        FIRST_LUT,
    ),
    "Modality LUT, then a window": (
        RAMP12,
        {"BitsStored": 12, "ModalityLUTSequence": lut(("US", 0), GAMMA, 12), **WINDOW},
        FIRST_WINDOW,
    ),
    "Modality LUT without a window": (
        RAMP12,
        {"BitsStored": 12, "ModalityLUTSequence": lut(("US", 0), GAMMA, 12)},
        (),
    ),
    # DCMTK is told to judge the bits of a LUT by its entries, as is done here
    "VOI LUT whose descriptor states 16 bits for entries of 12": (
        RAMP12,
        {"BitsStored": 12, "VOILUTSequence": lut(("US", 0), GAMMA, 16)},
        (*FIRST_LUT, "+Mv"),
    ),
    "the same of MONOCHROME1": (
        RAMP12,
        {
            "BitsStored": 12,
            "PhotometricInterpretation": "MONOCHROME1",
            "VOILUTSequence": lut(("US", 0), GAMMA, 16),
        },
        (*FIRST_LUT, "+Mv"),
    ),
    "the same of a Modality LUT": (
        RAMP12,
        {"BitsStored": 12, "ModalityLUTSequence": lut(("US", 0), GAMMA, 16)},
        ("+Mm",),
    ),
    "Modality LUT with entries of 11 bits": (
        RAMP12,
        {"BitsStored": 12, "ModalityLUTSequence": lut(("US", 0), [value // 2 for value in GAMMA], 12)},
        ("+Mm",),
    ),
    "VOI LUT of bytes packed into words": (
        RAMP12,
        {"BitsStored": 12, "VOILUTSequence": lut(("US", 0), bytes(value // 16 for value in GAMMA), 8, "OW")},
        FIRST_LUT,
    ),
    # to DCMTK it is a window from the smallest to the largest value
    "16 bits, no window, all of them between Smallest and Largest Image Pixel Value": (
        1000 + 3 * RAMP12,
        {"SmallestImagePixelValue": ("US", 1000), "LargestImagePixelValue": ("US", 13285)},
        ("+Wm",),
    ),
    "12 bits stored as 16": (RAMP12, {}, ("+Wm",)),
    "12 signed bits stored as 16": (SIGNED12, {}, ("+Wm",)),
    "12 bits stored as 16 of MONOCHROME1": (RAMP12, {"PhotometricInterpretation": "MONOCHROME1"}, ("+Wm",)),
    "12 bits stored as 16, rescaled": (RAMP12, {"RescaleSlope": "0.5", "RescaleIntercept": "-100"}, ("+Wm",)),
    "12 bits stored as 16 under a window beside them": (
        RAMP12,
        {"WindowCenter": "60000", "WindowWidth": "1000"},
        ("+Wm",),
    ),
}

# rule -> likewise, and why DCMTK shows something else
OTHER_RULES: dict[str, tuple[np.ndarray, dict[str, object], tuple[str, ...], str]] = {
    "LINEAR_EXACT": (
        RAMP12 % 8,
        {"BitsStored": 12, "VOILUTFunction": "LINEAR_EXACT", "WindowCenter": "3", "WindowWidth": "4"},
        FIRST_WINDOW,
        "DCMTK 3.6 knows LINEAR and SIGMOID alone (PS3.3 C.11.2.1.3.2 came later)",
    ),
    "padding": (
        RAMP12,
        {"BitsStored": 12, "PixelPaddingValue": ("US", 3000), "PixelPaddingRangeLimit": ("US", 4095)},
        (),
        "dcmj2pnm shows padding like any other value, to us it is background",
    ),
    "shutter": (
        RAMP12 | 0x0FFF,
        {
            "BitsStored": 12,
            "ShutterShape": "CIRCULAR",
            "CenterOfCircularShutter": ["32", "32"],
            "RadiusOfCircularShutter": "20",
        },
        (),
        "dcmj2pnm knows no shutter outside of presentation states",
    ),
}


def rendered(program: str, file: Path, *options: str) -> np.ndarray:
    """What DCMTK shows, uint8 [rows, columns] as stored."""
    target = file.with_suffix(".pgm")
    done = subprocess.run(
        [require_peer(program), "-O", "-S", *options, str(file), str(target)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    words = target.read_bytes().split(maxsplit=4)
    if words[0] == b"P5" and words[1].startswith(b"#"):  # a comment's words
        raise AssertionError("a comment in the PGM")
    columns, rows, highest = (int(word) for word in words[1:4])
    assert highest == 255
    return np.frombuffer(target.read_bytes()[-rows * columns :], np.uint8).reshape(rows, columns)


def as_stored(shown: Grayscale) -> np.ndarray:
    """Ours in 255 gray levels, turned back to how it is stored."""
    y, x = np.mgrid[: shown.image.shape[0], : shown.image.shape[1]]
    stored = np.rint(shown.to_stored @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])).astype(int)
    result = np.zeros((stored[1].max() + 1, stored[0].max() + 1), np.float32)
    result[stored[1], stored[0]] = shown.image.ravel() * 255
    return result


def difference(folder: Path, data: bytes, program: str, *options: str) -> float:
    """The mean difference in gray levels of 255."""
    file = folder / "image.dcm"
    file.write_bytes(data)
    return float(np.abs(as_stored(read_grayscale(file)) - rendered(program, file, *options)).mean())


@pytest.mark.parametrize("rule", SAME_RULES)
def test_dcmtk_shows_the_same(tmp_path: Path, rule: str) -> None:
    pixels, attributes, options = SAME_RULES[rule]
    assert difference(tmp_path, image_file(pixels, **attributes), "dcmj2pnm", *options) < 1.0


@pytest.mark.parametrize("rule", OTHER_RULES)
def test_dcmtk_shows_something_else_for_a_stated_reason(tmp_path: Path, rule: str) -> None:
    pixels, attributes, options, why = OTHER_RULES[rule]
    assert difference(tmp_path, image_file(pixels, **attributes), "dcmj2pnm", *options) > 1.0, why


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_dcmtk_shows_the_same_of_every_uncompressed_syntax(tmp_path: Path, syntax: str) -> None:
    data = image_file(RAMP12, syntax, BitsStored=12, **WINDOW)
    assert difference(tmp_path, data, "dcmj2pnm", *FIRST_WINDOW) < 1.0


@pytest.mark.parametrize(("name", "options"), [("RG1_UNCR", FIRST_WINDOW), ("RG3_UNCR", FIRST_WINDOW)])
def test_dcmtk_shows_the_same_of_real_radiographs(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    assert difference(tmp_path, sample(name).read_bytes(), "dcmj2pnm", *options) < 1.0


SHARED = {
    "wg04_RG1_chest_JLSN.dcm": "dcml2pnm",
    "wg04_RG2_hip_JPLL.dcm": "dcmj2pnm",
    "wg04_RG3_extremity_JLSL.dcm": "dcml2pnm",
    "wg04_RG3_extremity_JLSN.dcm": "dcml2pnm",
    "wg04_RG3_extremity_JPLL.dcm": "dcmj2pnm",
    "wg04_RG3_extremity_JPLY.dcm": "dcmj2pnm",
    "wg04_RG3_extremity_RLE.dcm": "dcmj2pnm",
    "highdicom_dx_dog_thorax.dcm": "dcmj2pnm",
    "fodicom_CR-MONO1-10-chest_no_meta.dcm": "dcmj2pnm",
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", SHARED)
def test_dcmtk_shows_the_same_of_the_shared_radiographs(tmp_path: Path, shared_data: Path, name: str) -> None:
    source = shared_data / "dicom" / name
    voi = read_grayscale(source).record["voi"]
    options = FIRST_WINDOW if voi.startswith("window") else FIRST_LUT if voi.startswith("LUT") else ()
    assert difference(tmp_path, source.read_bytes(), SHARED[name], *options) < 1.0
