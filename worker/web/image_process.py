"""A received radiograph drawn as a JPEG: what runs in the process that the pages keep for decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2

from dicom_io.header.instance_header import UnreadableDicom
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from model.rendering.overlay import draw_thumbnail
from worker.runtime.isolated_process import Handler, unforeseen


class PictureFailed(Exception):
    """Drawing failed, on this image, in a way that says nothing of its format; the message holds no patient data."""


@dataclass(frozen=True)
class Wanted:
    """A file to draw, never larger than `longest` pixels; `quality` is JPEG's, 0 to 100."""

    path: Path
    longest: int
    quality: int


@dataclass(frozen=True)
class Drawn:
    """A grayscale JPEG, and the rows and columns of the image as it hangs, before it was made smaller."""

    jpeg: bytes
    shape: tuple[int, int]


def begin() -> Handler:
    """Return what draws a `Wanted`: `Drawn`, or PixelsUnreadable, UnreadableDicom, PictureFailed."""
    cv2.setNumThreads(1)  # somebody waits for one picture at a time, and the workers need the cores
    return _draw


def _draw(wanted: Wanted) -> Drawn:
    try:
        image = read_grayscale(wanted.path).image
        gray = draw_thumbnail(image, wanted.longest)
        encoded, data = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, wanted.quality])
    except (PixelsUnreadable, UnreadableDicom):
        raise
    except Exception as error:
        raise PictureFailed(f"drawing it failed: {unforeseen(error)}") from error
    assert encoded, "OpenCV encodes every uint8 image"
    return Drawn(data.tobytes(), (image.shape[0], image.shape[1]))
