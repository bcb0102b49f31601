"""Reading of radiographs in PNG or JPEG files."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

COLOUR_TOLERANCE = 12 / 255
"""Largest mean difference between the colour channels of a grayscale image; JPEG's rounding stays below it."""

_JPEG = b"\xff\xd8\xff"
_END = b"\xff\xd9"
MAXIMUM_PIXELS = 100_000_000
"""Rows times columns, above those of any radiograph; a file whose header claims more is not decoded."""


class UnreadableImage(ValueError):
    """A file is no readable grayscale PNG or JPEG image; the message says why."""

    exit_code: ClassVar[int] = 1


def read_raster(path: Path) -> NDArray[np.float32]:
    """Read a PNG or JPEG file as a grayscale image.

    Pixels of 8 or 16 bits are divided by the full range of their type. RGB images with equal channels count as
    grayscale. Alpha channels and orientation tags are ignored: in radiographs they are artefacts of the software that
    wrote the file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    float32 [rows, columns] in [0, 1].

    Raises
    ------
    UnreadableImage
        The file is missing, empty, damaged, not a PNG or JPEG, too large, or in colour.
    """
    import cv2

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path} cannot be read: {error.strerror or error}") from error
    if not data.startswith((b"\x89PNG\r\n\x1a\n", _JPEG)):
        raise UnreadableImage(f"{path} is neither PNG nor JPEG ({len(data)} bytes)")
    _check_size(path, data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage(f"{path} cannot be decoded: {error.err}") from error
    if pixels is None:
        raise UnreadableImage(f"{path} cannot be decoded: it is damaged or truncated")
    if data.startswith(_JPEG):
        _check_scan(path, data)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"{path} has pixels of type {pixels.dtype}; allowed are 8 and 16 bits")
    image: NDArray[np.float32] = np.divide(pixels, 255 if pixels.dtype == np.uint8 else 65535, dtype=np.float32)
    return np.ascontiguousarray(image if image.ndim == 2 else _gray(path, image))


def _check_size(path: Path, data: bytes) -> None:
    """Raise UnreadableImage where the header claims too many pixels, or the file is truncated; nothing is decoded."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as header:
            width, height = header.size
            if width * height > MAXIMUM_PIXELS:
                raise UnreadableImage(f"{path} has {width}x{height} pixels; allowed are {MAXIMUM_PIXELS}")
            if header.format == "PNG":
                header.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path} cannot be decoded: {error}") from error
    if data.startswith(_JPEG) and _END not in data[-4096:]:
        raise UnreadableImage(f"{path} cannot be decoded: the JPEG data are truncated")


def _check_scan(path: Path, data: bytes) -> None:
    """Raise UnreadableImage where scan data are missing before the end marker, which decoders fill with gray.

    Bytes inserted before the marker do not change a complete image, but fill in for missing scan data. Missing data of
    the last sixteen rows are not detected. Pillow decodes here, since OpenCV prints a warning about the inserted bytes.
    """
    import io

    from PIL import Image

    end = data.rfind(_END)
    try:
        with (
            Image.open(io.BytesIO(data), formats=["JPEG"]) as original,
            Image.open(io.BytesIO(data[:end] + bytes(range(1, 128)) * 2 + data[end:]), formats=["JPEG"]) as extended,
        ):
            missing = not np.array_equal(np.asarray(original)[:-16], np.asarray(extended)[:-16])
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableImage(f"{path} cannot be decoded: {error}") from error
    if missing:
        raise UnreadableImage(f"{path} cannot be decoded: a part of the JPEG data is missing")


def _gray(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of equal colour channels, float32 [rows, columns]; UnreadableImage where they differ."""
    if image.shape[2] == 2:
        return image[:, :, 0]
    colour = image[:, :, :3]
    spread = float((colour.max(axis=2) - colour.min(axis=2)).mean())
    if spread > COLOUR_TOLERANCE:
        raise UnreadableImage(
            f"{path} is in colour (channels differ by {spread:.3f} on average, allowed {COLOUR_TOLERANCE:.3f}); "
            "a grayscale radiograph is needed"
        )
    mean: NDArray[np.float32] = colour.mean(axis=2, dtype=np.float32)
    return mean
