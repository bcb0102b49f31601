"""What DCMTK encodes is decoded to the same image: codestreams that our own library has not made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid

from dicom_io.pixels.grayscale import read_grayscale
from tests.dicom_io.images import image_file
from tests.peers.programs import require_peer

pytestmark = pytest.mark.peer

ROWS, COLUMNS = 61, 83
NOISE = np.random.default_rng(4).integers(0, 4096, (ROWS, COLUMNS))
SMOOTH = np.add.outer(np.linspace(0, 3000, ROWS), np.linspace(0, 1000, COLUMNS)).astype(np.int64)


def radiograph(pixels: np.ndarray, bits: int, **attributes: object) -> bytes:
    kind = np.uint8 if bits == 8 else np.uint16
    return image_file(pixels.astype(kind), BitsStored=bits, **attributes)


def recoded(folder: Path, data: bytes, program: str, *options: str) -> Path:
    source, target = folder / "plain.dcm", folder / "coded.dcm"
    source.write_bytes(data)
    done = subprocess.run(
        [require_peer(program), *options, str(source), str(target)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return target


LOSSLESS = [
    *((("dcmcjpeg", "+el", "+sv", str(value)), uid.JPEGLossless) for value in range(1, 8)),
    (("dcmcjpeg", "+e1"), uid.JPEGLosslessSV1),
    (("dcmcjpls", "+el"), uid.JPEGLSLossless),
    (("dcmcrle",), uid.RLELossless),
]


@pytest.mark.parametrize(("how", "syntax"), LOSSLESS, ids=["-".join(row[0]) for row in LOSSLESS])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_coding_gives_back_every_value(tmp_path: Path, how: tuple[str, ...], syntax: str, bits: int) -> None:
    data = radiograph(NOISE % (1 << bits) * (16 if bits == 16 else 1), bits)
    coded = recoded(tmp_path, data, *how)
    assert dcmread(coded, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read_grayscale(coded).image, read_grayscale(data).image)


LOSSY = [
    (("dcmcjpeg", "+eb", "+q", "98"), 8, uid.JPEGBaseline8Bit, 2.0),
    (("dcmcjpeg", "+ee", "+q", "98"), 8, uid.JPEGExtended12Bit, 2.0),
    (("dcmcjpeg", "+ee", "+q", "98"), 12, uid.JPEGExtended12Bit, 2.0),
    (("dcmcjpls", "+en", "+md", "3"), 12, uid.JPEGLSNearLossless, 0.3),
]


@pytest.mark.parametrize(("how", "bits", "syntax", "levels"), LOSSY)
def test_lossy_coding_stays_within_its_loss(
    tmp_path: Path, how: tuple[str, ...], bits: int, syntax: str, levels: float
) -> None:
    data = radiograph(SMOOTH >> (12 - bits), bits)
    coded = recoded(tmp_path, data, *how)
    assert dcmread(coded, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    assert np.abs(read_grayscale(coded).image - read_grayscale(data).image).max() * 255 < levels
