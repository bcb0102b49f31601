"""Reading of radiographs in PNG or JPEG files."""

import struct
from dataclasses import dataclass
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

_ORIENTATION = 0x0112  # EXIF tag: 1 as stored, 2 mirrored ... 8
_EXIF_IN_PNG = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
_FEWEST_BITS = 8  # an image that occupies fewer is dark, or blank
_OUTLIERS = 0.001  # share of pixels, such as dead ones, that say nothing about the range


class UnreadableImage(ValueError):
    """A file is no readable grayscale PNG or JPEG image; the message says why."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class Raster:
    """A grayscale image of a file.

    Attributes
    ----------
    image
        float32 [rows, columns] in [0, 1], as viewers show it.
    flags
        For people, such as ``12 of 16 bits occupied``.
    record
        What was applied to the stored pixels; kept with the result.
    """

    image: NDArray[np.float32]
    flags: tuple[str, ...]
    record: dict[str, str]


def read_raster(path: Path) -> NDArray[np.float32]:
    """Read a PNG or JPEG file as float32 [rows, columns] in [0, 1]; details and errors as for `read_raster_file`."""
    return read_raster_file(path).image


def read_raster_file(path: Path) -> Raster:
    """Read a PNG or JPEG file as a grayscale image.

    Pixels of 8 or 16 bits are divided by the full range of their type; 16-bit pixels that do not exceed a quarter of
    it, by the range of the bits that they occupy, as 12 bits stored as 16 would be black. RGB images with equal
    channels count as grayscale. The EXIF orientation is applied, as viewers do. Alpha channels and a stated gamma are
    ignored: in radiographs they are artefacts of the software that wrote the file.

    Parameters
    ----------
    path
        The file.

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
    highest, flags, record = _range(pixels)
    image: NDArray[np.float32] = np.minimum(np.divide(pixels, highest, dtype=np.float32), np.float32(1.0))
    image = image if image.ndim == 2 else _gray(path, image)
    orientation = _orientation(data)
    if orientation != 1:
        record["orientation"] = f"EXIF orientation {orientation} applied"
        flags = (*flags, record["orientation"])
    return Raster(np.ascontiguousarray(_turned(image, orientation)), flags, record)


def _range(pixels: NDArray[np.integer | np.floating]) -> tuple[int, tuple[str, ...], dict[str, str]]:
    """The stored value that is white, flags, and the record."""
    whole = 255 if pixels.dtype == np.uint8 else 65535
    if pixels.dtype == np.uint16:
        values = pixels if pixels.ndim == 2 else pixels[:, :, : 1 if pixels.shape[2] == 2 else 3]
        counts = np.bincount(values.ravel(), minlength=whole + 1)[:whole]  # a border of white says nothing
        until = np.cumsum(counts)
        high = int(np.searchsorted(until, until[-1] - int(_OUTLIERS * until[-1])))
        bits = max(high.bit_length(), _FEWEST_BITS)
        occupied = (1 << bits) - 1
        if 4 * occupied <= whole and np.count_nonzero(counts) > 1:
            text = f"nothing exceeds a quarter of 0 to {whole}: range of the {bits} occupied bits 0 to {occupied}"
            return occupied, (f"{bits} of 16 bits occupied",), {"voi": text}
    return whole, (), {"voi": f"full range 0 to {whole}"}


def _orientation(data: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    import io

    from PIL import Image

    if not data.startswith(_JPEG) and not any(mark in data for mark in _EXIF_IN_PNG):
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as picture:
            found = picture.getexif().get(_ORIENTATION)
    except (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1  # the pixels were read; Pillow raises these for damaged EXIF
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(image: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Apply an EXIF orientation: 2 to 4 mirror and turn upside down, 5 to 8 also exchange rows and columns."""
    turned = image.T if orientation >= 5 else image
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return turned[::-1] if orientation in (3, 4, 7, 8) else turned


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
