"""Draws a received radiograph as a JPEG; runs in the separate decoding process of the web server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2

from dicom_io.header.instance_header import UnreadableDicom
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from model.rendering.overlay import draw_thumbnail
from worker.runtime.isolated_process import Handler, unforeseen


class PictureFailed(Exception):
    """An unexpected error while this image was drawn; the message holds no patient data."""


@dataclass(frozen=True)
class Wanted:
    """A file to draw, never larger than `longest` pixels; `quality` is JPEG's, 0 to 100."""

    path: Path
    longest: int
    quality: int


@dataclass(frozen=True)
class Drawn:
    """A grayscale JPEG, and the rows and columns of the displayed image before it was reduced."""

    jpeg: bytes
    shape: tuple[int, int]


def begin() -> Handler:
    """Return what draws a `Wanted`: `Drawn`, or PixelsUnreadable, UnreadableDicom, PictureFailed."""
    cv2.setNumThreads(1)  # the workers need the cores
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
