"""Reads the pixels of a heatmap Secondary Capture for display."""

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from dicom_io.header.parsing import PARSING_ERRORS
from dicom_io.pixels.grayscale import PixelsUnreadable


def read_heatmap_pixels(path: Path) -> NDArray[np.uint8]:
    """Read the pixels of an object that `heatmap_secondary_capture` made.

    Returns
    -------
    uint8 RGB [rows, columns, 3]

    Raises
    ------
    PixelsUnreadable
        If the file is not DICOM or has no uncompressed 8 bit RGB image.
    """
    try:
        dataset = pydicom.dcmread(path)
        shape = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
        pixels = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    except (*PARSING_ERRORS, AttributeError, TypeError) as error:
        raise PixelsUnreadable(f"{path} has no readable image: {type(error).__name__}") from error
    size = shape[0] * shape[1] * shape[2]
    if shape[2] != 3 or pixels.size < size:
        raise PixelsUnreadable(f"{path} has {pixels.size} bytes in {shape}, not an 8 bit RGB image")
    return pixels[:size].reshape(shape)
