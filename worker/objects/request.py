"""What objects are made of: the images of a study with what one pass found out about each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from db.records import FindingRecord
from dicom_io.pixels.grayscale import Grayscale
from model.bundle.bundle import Bundle
from model.inference.domain_flags import OUTSIDE
from model.inference.predictor import InferenceResult
from model.preprocessing.tensor import PreparedImage
from model.rendering.overlay import OverlayStyle


@dataclass(frozen=True)
class ImageReading:
    """Everything one pass found out about one image.

    Attributes
    ----------
    image : float32 [rows, cols] in [0, 1]
        As displayed, oriented left\\foot; at a lower resolution where that is enough.
    flags : tuple of str
        In the order to be shown; `OUTSIDE` comes first where it applies.
    """

    image: NDArray[np.float32]
    prepared: PreparedImage
    reading: InferenceResult
    flags: tuple[str, ...]
    findings: tuple[FindingRecord, ...]
    record: dict[str, Any]
    grayscale: Grayscale | None

    @property
    def outside_domain(self) -> bool:
        return OUTSIDE in self.flags

    @property
    def affine(self) -> NDArray[np.float64]:
        """Float64 [2, 3]: tensor pixel -> pixel of the whole image, at whatever resolution it was decoded."""
        if self.grayscale is None:
            return self.prepared.affine
        (rows, columns), (height, width) = self.grayscale.full_shape, self.image.shape
        step_x, step_y = columns / width, rows / height
        to_whole = np.array([[step_x, 0.0, step_x / 2 - 0.5], [0.0, step_y, step_y / 2 - 0.5]])
        return to_whole @ np.vstack([self.prepared.affine, [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class ReadImage:
    """One DICOM image that was read: its file, the SHA-256 of that file, and what a model said of it."""

    source: Path
    sha256: str
    sop_instance_uid: str
    reading: ImageReading
    bundle: Bundle


@dataclass(frozen=True)
class ObjectRequest:
    """What the objects of one study are made of.

    Attributes
    ----------
    style
        How heatmaps are drawn.
    created
        The time written in the objects, with a zone; from a row, never from the clock when they are made.
    """

    installation: UUID
    study_instance_uid: str
    created: datetime
    images: tuple[ReadImage, ...]
    style: OverlayStyle = "both"
