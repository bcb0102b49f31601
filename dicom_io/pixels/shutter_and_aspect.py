"""Shutters (which pixels are background) and pixel aspect (resampling to square pixels)."""

import math

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicom_io.header import parsing
from dicom_io.pixels.orientation import Affine

_SQUARE_ENOUGH = 0.01  # spacings of 1.2 and 1.2012 mm differ by a fifth of a pixel over an image
_LARGEST_ASPECT = 5.0
_SMALLEST_OPENING = 0.01


def shutter_opening(dataset: FileDataset, rows: int, columns: int) -> tuple[NDArray[np.bool_] | None, str]:
    """Find the pixels within the shutters (PS3.3 C.7.6.11).

    Returns
    -------
    tuple of ndarray of bool [rows, columns] or None, and str
        True within the shutters (None: no shutter), and what was applied or ignored.
    """
    shapes = [shape for shape in parsing.texts(dataset, "ShutterShape") if shape]
    if not shapes:
        return None, ""
    opening = np.ones((rows, columns), bool)
    ignored = []
    for shape in shapes:
        part = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}.get(shape.upper(), _unknown)(
            dataset, rows, columns
        )
        if part is None:
            ignored.append(shape.upper())
        else:
            opening &= part
    if len(ignored) == len(shapes):
        return None, "shutter ignored: its shape or edges cannot be read"
    if opening.mean() < _SMALLEST_OPENING:
        return None, "shutter ignored: it would cover the whole image"
    applied = "+".join(shape.upper() for shape in shapes if shape.upper() not in ignored)
    return opening, applied + (f"; ignored: {', '.join(ignored)} cannot be read" if ignored else "")


def square_pixels(dataset: FileDataset) -> tuple[float, float]:
    """Return the factors for rows and columns, at least 1 each, that make the pixels square."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        values = parsing.numbers(dataset, keyword)
        if len(values) == 2 and values[0] and values[1] and values[0] > 0 and values[1] > 0:
            ratio = values[0] / values[1]  # a pixel's height to its width
            if abs(math.log(ratio)) <= _SQUARE_ENOUGH or not 1 / _LARGEST_ASPECT <= ratio <= _LARGEST_ASPECT:
                return 1.0, 1.0
            return max(ratio, 1.0), max(1 / ratio, 1.0)
    return 1.0, 1.0


def pixel_spacing(dataset: FileDataset) -> tuple[float, float] | None:
    """Read PixelSpacing, mm between rows and between columns; None unless both are above 0."""
    values = parsing.numbers(dataset, "PixelSpacing")
    if len(values) != 2 or not values[0] or not values[1] or min(values[0], values[1]) <= 0:
        return None
    return values[0], values[1]


def resample(image: NDArray[np.float32], factors: tuple[float, float]) -> tuple[NDArray[np.float32], Affine]:
    """Stretch rows and columns, bilinearly.

    Returns
    -------
    tuple of ndarray [rows, columns] and ndarray [2, 3]
        The stretched image, and the map of its pixel centres (x, y) to those of `image`.
    """
    import cv2

    rows, columns = image.shape
    size = max(1, round(columns * factors[1])), max(1, round(rows * factors[0]))
    stretched = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.float32)
    step_x, step_y = columns / size[0], rows / size[1]
    return stretched, np.array([[step_x, 0.0, step_x / 2 - 0.5], [0.0, step_y, step_y / 2 - 0.5]])


def _rectangle(dataset: FileDataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    edges = [
        parsing.number(dataset, f"Shutter{side}Edge")
        for side in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    ]
    if None in edges:
        return None
    left, right, upper, lower = (edge for edge in edges if edge is not None)
    row, column = _grid(rows, columns)
    return (column >= left) & (column <= right) & (row >= upper) & (row <= lower)


def _circle(dataset: FileDataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    center, radius = (
        parsing.numbers(dataset, "CenterOfCircularShutter"),
        parsing.number(dataset, "RadiusOfCircularShutter"),
    )
    if len(center) != 2 or center[0] is None or center[1] is None or radius is None:
        return None
    row, column = _grid(rows, columns)
    return (row - center[0]) ** 2 + (column - center[1]) ** 2 <= radius**2


def _polygon(dataset: FileDataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    import cv2

    values = parsing.numbers(dataset, "VerticesOfThePolygonalShutter")
    known = [value for value in values if value is not None and abs(value) < 1e6]
    if len(known) != len(values) or len(known) < 6 or len(known) % 2:
        return None
    corners = np.array(known, np.float64).reshape(-1, 2)[:, ::-1] - 1.0  # row, column from 1 -> x, y from 0
    filled = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(filled, [np.rint(corners).astype(np.int32)], (1,))
    return filled.astype(bool)


def _unknown(_dataset: FileDataset, _rows: int, _columns: int) -> None:
    return None


def _grid(rows: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column numbers as in shutter attributes, from 1."""
    return np.arange(1.0, rows + 1)[:, None], np.arange(1.0, columns + 1)[None, :]
