"""JPEG 2000 decoded at a half, a quarter ... of its size where that suffices, in a third of the time or less.

The codestream has the image at every halved size; OpenJPEG in Pillow decodes one of them. Other cases (colour, signed
values, an offset grid, other bits than the header states) are decoded at full resolution.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from dicom_io.pixels.codestream_headers import WaveletGrid, wavelet_grid
from dicom_io.pixels.image_pixel_module import PixelDescription

Affine = NDArray[np.float64]

REDUCIBLE = {
    str(each) for each in (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
}


@dataclass(frozen=True)
class SufficientResolution:
    """The pixels that suffice on the longest and on the shortest side of an image."""

    longest: int
    shortest: int


def halvings(frame: bytes, description: PixelDescription, enough: SufficientResolution) -> int:
    """How often the image of a frame may be halved in both directions; 0 where it needs full resolution."""
    grid = wavelet_grid(frame) if description.transfer_syntax_uid in REDUCIBLE else None
    if grid is None or not _plain(grid, description):
        return 0
    sides = description.rows, description.columns
    for count in range(min(grid.levels, 5), 0, -1):
        halved = [-(-side >> count) for side in sides]  # rounded up, ITU-T T.800 B-15
        # Pillow rounds to the nearest instead, and fails where the result differs
        fits = all((side + (1 << count >> 1)) >> count == half for side, half in zip(sides, halved, strict=True))
        if fits and max(halved) >= enough.longest and min(halved) >= enough.shortest:
            return count
    return 0


def decode_halved(frame: bytes, description: PixelDescription, count: int) -> NDArray[np.uint16] | None:
    """Decode at ``1 / 2**count`` of the size, uint16 [rows, columns]; None where this machine's library cannot."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(io.BytesIO(frame), formats=["JPEG2000"]) as picture:
            picture.reduce = count  # type: ignore[assignment]  # an attribute of Pillow's JPEG 2000 images alone
            picture.load()
            values = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if values.shape != (-(-description.rows >> count), -(-description.columns >> count)):
        return None
    if values.dtype == np.uint8 and description.bits_stored == 8:
        return values.astype(np.uint16)
    if values.dtype != np.uint16 or description.bits_stored <= 8:
        return None
    # Pillow shifts values of fewer than 16 bits to the most significant bits
    return np.asarray(values >> (16 - description.bits_stored), np.uint16)


def on_full_grid(image: NDArray[np.float32], rows: int, columns: int, count: int) -> tuple[NDArray[np.float32], Affine]:
    """Resample a halved image onto the grid whose edges are those of the full image.

    A halved sample lies on pixel ``2**count x index`` of the full image (the low-pass filters of the wavelets are
    symmetric about even samples), not in the middle of the pixels that it covers. Uncorrected, the image is shifted.

    Returns
    -------
    tuple of ndarray [rows, columns] and ndarray [2, 3]
        The image, and the map of its pixel centres (x, y) to those of the full image.
    """
    height, width = image.shape
    step_x, step_y = columns / width, rows / height
    to_full = np.array([[step_x, 0.0, step_x / 2 - 0.5], [0.0, step_y, step_y / 2 - 0.5]])
    sampled = to_full / (1 << count)
    result = _between(image, sampled[1, 1] * np.arange(height) + sampled[1, 2])
    result = _between(result.T, sampled[0, 0] * np.arange(width) + sampled[0, 2]).T
    return np.ascontiguousarray(np.clip(result, 0.0, 1.0)), to_full


def _between(image: NDArray[np.float32], rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate rows by cubic convolution; OpenCV rounds positions to a 32nd of a pixel."""
    first = np.floor(rows).astype(np.int64)
    t = rows - first
    weights = (  # Keys 1981, a = -1/2
        t * (-0.5 + t * (1.0 - 0.5 * t)),
        1.0 + t * t * (-2.5 + 1.5 * t),
        t * (0.5 + t * (2.0 - 1.5 * t)),
        t * t * (-0.5 + 0.5 * t),
    )
    result = np.zeros((len(rows), image.shape[1]), np.float32)
    for step, weight in enumerate(weights, -1):
        taken = image[np.clip(first + step, 0, len(image) - 1)]
        result += taken * weight.astype(np.float32)[:, np.newaxis]
    return result


def _plain(grid: WaveletGrid, description: PixelDescription) -> bool:
    return (
        grid.at_origin
        and not grid.signed
        and grid.precision == description.bits_stored
        and grid.components == 1
        and description.samples == 1
        and not description.signed
        and description.bits_stored <= 16
        and description.high_bit == description.bits_stored - 1
    )
