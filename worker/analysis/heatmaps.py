"""Heatmaps of one analysis: which labels, the drawn image, and the Secondary Capture objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from db.records import FindingRecord
from dicom_io.objects.heatmap_secondary_capture import HeatmapRequest, heatmap_secondary_capture
from model.bundle.bundle import Bundle
from model.rendering.overlay import RENDERING_VERSION, draw_overlay, legend_for
from worker import APPLICATION
from worker.analysis.pipeline import ImageReading
from worker.model_registry.preprocessing import HEATMAP_LONGEST_SIDE, preprocessing_id

HEATMAP_SERIES_NUMBER = 9001


@dataclass(frozen=True)
class Heatmap:
    """A heatmap Secondary Capture, ready to be stored."""

    label: str
    sop_instance_uid: str
    data: bytes


def explained_labels(findings: Sequence[FindingRecord]) -> list[int]:
    """Return the labels a heatmap is made for: every positive one, else the one nearest to its threshold.

    A label that reaches its threshold without being positive was not trained at this age: it is not drawn.
    """
    positive = [index for index, finding in enumerate(findings) if finding.positive]
    counted = [index for index, finding in enumerate(findings) if finding.probability < finding.threshold]
    return positive or [
        max(
            counted or range(len(findings)),
            key=lambda index: findings[index].probability / max(findings[index].threshold, 1e-9),
        )
    ]


def draw(read: ImageReading, index: int, bundle: Bundle) -> tuple[NDArray[np.uint8], float]:
    """Draw the radiograph with one label's overlay and its legend.

    Returns
    -------
    picture : uint8 RGB [H, W, 3]
    scale : float
        Drawn pixels per pixel of ``read.image``.
    """
    drawn = draw_overlay(
        read.image,
        read.reading.maps.contribution(index),
        read.prepared.affine,
        bundle.preprocessing.size,
        legend_for(bundle, read.reading, index, read.flags),
        longest_side=HEATMAP_LONGEST_SIDE,
    )
    return drawn.rgb, drawn.scale


def make_heatmaps(
    source: Path,
    read: ImageReading,
    bundle: Bundle,
    *,
    installation: UUID,
    sop_instance_uid: str,
    study_instance_uid: str,
    created: datetime,
) -> list[Heatmap]:
    """Make the heatmap Secondary Captures of one reading; the same input gives the same bytes."""
    assert read.grayscale is not None, "heatmap objects are made of DICOM sources only"
    made = []
    for index in explained_labels(read.findings):
        finding = read.findings[index]
        picture, scale = draw(read, index, bundle)
        spacing = read.grayscale.pixel_spacing
        request = HeatmapRequest(
            installation_id=installation,
            object_key=object_key("heatmap", sop_instance_uid, bundle, finding.label),
            series_key=f"series|heatmap|{study_instance_uid}|{bundle.digest}",
            label=finding.label,
            probability=finding.probability,
            threshold=finding.threshold,
            model_name=bundle.name,
            model_digest=bundle.digest,
            application_version=APPLICATION,
            created=created,
            series_number=HEATMAP_SERIES_NUMBER,
            spatial_locations_preserved=False,  # the picture is scaled and carries a legend strip
            pixel_spacing=None if spacing is None else (spacing[0] / scale, spacing[1] / scale),
            patient_orientation=read.grayscale.patient_orientation,
        )
        uid, data = heatmap_secondary_capture(source, picture, request)
        made.append(Heatmap(finding.label, uid, data))
    return made


def object_key(kind: str, subject_uid: str, bundle: Bundle, label: str) -> str:
    """Return the key that an object's UID is derived from; the columns of the database's unique key, in order."""
    return "|".join((kind, subject_uid, bundle.digest, preprocessing_id(bundle), label, "", str(RENDERING_VERSION)))
