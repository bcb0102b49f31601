"""Heatmaps: which labels of an image get one, the drawn image, and its Secondary Capture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from db.records import FindingRecord, ObjectKey
from dicom_io.objects.heatmap_secondary_capture import HeatmapRequest, heatmap_secondary_capture
from model.bundle.bundle import Bundle
from model.rendering.overlay import RENDERING_VERSION, OverlayStyle, draw_overlay, legend_for
from worker import APPLICATION
from worker.model_registry.preprocessing import HEATMAP_LONGEST_SIDE, preprocessing_id
from worker.objects.kind import ObjectDraft
from worker.objects.request import ImageReading, ObjectRequest, ReadImage
from worker.storage.store import DICOM_SUFFIX

HEATMAP_SERIES_NUMBER = 9001


class HeatmapKind:
    """A Secondary Capture for each explained label of each image."""

    name = "heatmap"

    def drafts(self, request: ObjectRequest) -> Sequence[ObjectDraft]:
        return [
            self._draft(request, image, index)
            for image in request.images
            for index in explained_labels(image.reading.findings)
        ]

    def _draft(self, request: ObjectRequest, image: ReadImage, index: int) -> ObjectDraft:
        read, bundle = image.reading, image.bundle
        finding = read.findings[index]
        inputs = (
            RENDERING_VERSION,
            image.sha256,
            f"{finding.probability:.4f}",  # as the object states it: the same image on another machine is no new input
            finding.threshold,
            legend_for(bundle, read.reading, index, read.flags, request.style),
        )
        return ObjectDraft(
            key=ObjectKey(
                self.name, image.sop_instance_uid, bundle.digest, preprocessing_id(bundle), finding.label, variant=""
            ),
            inputs_digest=hashlib.sha256(repr(inputs).encode()).hexdigest(),
            former_inputs=f"rendering version {RENDERING_VERSION}",
            suffix=DICOM_SUFFIX,
            make=partial(_secondary_capture, request, image, index),
        )


def explained_labels(findings: Sequence[FindingRecord]) -> list[int]:
    """Return the labels a heatmap is made for: every positive one, else the one nearest to its threshold.

    A label that reaches its threshold without being positive is not validated for this age group: it is not drawn.
    """
    positive = [index for index, finding in enumerate(findings) if finding.positive]
    counted = [index for index, finding in enumerate(findings) if finding.probability < finding.threshold]
    return positive or [
        max(
            counted or range(len(findings)),
            key=lambda index: findings[index].probability / max(findings[index].threshold, 1e-9),
        )
    ]


def draw(
    read: ImageReading, index: int, bundle: Bundle, style: OverlayStyle = "both"
) -> tuple[NDArray[np.uint8], float]:
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
        legend_for(bundle, read.reading, index, read.flags, style),
        longest_side=HEATMAP_LONGEST_SIDE,
    )
    return drawn.rgb, drawn.scale


def _secondary_capture(
    request: ObjectRequest, image: ReadImage, index: int, uid_text: str, number: int
) -> tuple[str, bytes]:
    read, bundle, finding = image.reading, image.bundle, image.reading.findings[index]
    assert read.grayscale is not None, "heatmap objects are made of DICOM sources only"
    picture, scale = draw(read, index, bundle, request.style)
    spacing = read.grayscale.pixel_spacing
    variant = "int8" if bundle.is_quantized else ""
    # whatever the attributes of series and equipment say is in its key: one series never has two descriptions
    series = ("series", "heatmap", request.study_instance_uid, bundle.digest, bundle.name, variant, APPLICATION)
    return heatmap_secondary_capture(
        image.source,
        picture,
        HeatmapRequest(
            installation_id=request.installation,
            object_key=uid_text,
            series_key="|".join(series),
            label=finding.label,
            probability=finding.probability,
            threshold=finding.threshold,
            model_name=bundle.name,
            model_digest=bundle.digest,
            application_version=APPLICATION,
            created=request.created,
            model_variant=variant,
            series_number=HEATMAP_SERIES_NUMBER,
            instance_number=number,
            spatial_locations_preserved=False,  # the picture is scaled and carries a legend strip
            pixel_spacing=None if spacing is None else (spacing[0] / scale, spacing[1] / scale),
            patient_orientation=read.grayscale.patient_orientation,
        ),
    )
