"""One image, one pass: grayscale -> tensor -> network -> findings and maps -> pictures and DICOM objects.

The same functions serve `analyse` on the command line, a live image and a batch. Nothing here knows the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from db.records import FindingRecord
from dicom_io.grayscale import GRAYSCALE_VERSION, Grayscale, Sufficient, read_grayscale
from dicom_io.secondary_capture import HeatmapRequest, heatmap_secondary_capture
from model.bundle import Bundle
from model.overlay import RENDERING_VERSION, draw_overlay, legend_for
from model.preprocessing import PreparedImage, Preprocessing, prepare
from model.raster import read_raster
from model.reader import OUTSIDE, Reader, Reading, domain_flags, untrained_labels
from worker import APPLICATION

HEATMAP_SERIES_NUMBER = 9001
HEATMAP_LONGEST_SIDE = 1024
# What of JPEG 2000 is enough: a picture drawn a sixteenth larger than what it is made of looks the same; at four times
# the tensor's size probabilities move by thousandths, at twice its size they moved by up to 0.012 on real films.
_ENOUGH_OF_HEATMAP = HEATMAP_LONGEST_SIDE * 15 // 16
_ENOUGH_OF_TENSOR = 4


def preprocessing_id(bundle: Bundle) -> str:
    """Return what names everything between file and tensor: the bundle's own preprocessing and the grayscale rules."""
    return f"{bundle.preprocessing.identifier}+gray{GRAYSCALE_VERSION}"


def enough_of(spec: Preprocessing) -> Sufficient:
    """Return what of JPEG 2000 is enough for heatmap and tensor: the same when a worker reads as in training."""
    return Sufficient(longest=_ENOUGH_OF_HEATMAP, shortest=_ENOUGH_OF_TENSOR * spec.size)


def made_by_newer(preprocessing_id: str) -> bool:
    """Whether a newer program than this one makes that: two run side by side while a site is upgraded."""
    version = preprocessing_id.rpartition("+gray")[2]
    return version.isdecimal() and int(version) > GRAYSCALE_VERSION


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
    reading: Reading
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
        (rows, columns), (height, width) = self.grayscale.whole_shape, self.image.shape
        step_x, step_y = columns / width, rows / height
        to_whole = np.array([[step_x, 0.0, step_x / 2 - 0.5], [0.0, step_y, step_y / 2 - 0.5]])
        return to_whole @ np.vstack([self.prepared.affine, [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Heatmap:
    """A heatmap Secondary Capture, ready to be stored."""

    label: str
    sop_instance_uid: str
    data: bytes


def read_dicom(
    path: Path,
    reader: Reader,
    *,
    age_years: float | None,
    view: str | None,
    flags: Sequence[str],
    reduced_resolution: bool = True,
) -> ImageReading:
    """Read one DICOM radiograph.

    Parameters
    ----------
    reduced_resolution
        Whether JPEG 2000 may be decoded at a lower resolution where tensor and heatmap need no more.

    Raises
    ------
    dicom_io.grayscale.PixelsUnreadable
        With a reason a person can read.
    """
    grayscale = read_grayscale(path, enough_of(reader.bundle.preprocessing) if reduced_resolution else None)
    return _read(
        grayscale.image,
        reader,
        age_years=age_years,
        view=view,
        flags=(*flags, *grayscale.flags),
        record=dict(grayscale.record),
        grayscale=grayscale,
    )


def read_picture(path: Path, reader: Reader) -> ImageReading:
    """Read one PNG or JPEG radiograph, of which neither age nor view is known.

    Raises
    ------
    model.raster.UnreadableImage
        With a reason a person can read.
    """
    return _read(read_raster(path), reader, age_years=None, view=None, flags=(), record={}, grayscale=None)


def _read(
    image: NDArray[np.float32],
    reader: Reader,
    *,
    age_years: float | None,
    view: str | None,
    flags: Sequence[str],
    record: dict[str, Any],
    grayscale: Grayscale | None,
) -> ImageReading:
    bundle = reader.bundle
    prepared = prepare(image, bundle.preprocessing)
    reading = reader.read([prepared], [age_years])[0]
    domain = domain_flags(bundle, age_years, view, reading.ood_score, reading.calibration)
    untrained = untrained_labels(bundle, age_years, reading.calibration)
    findings = tuple(
        _finding(
            label.name,
            float(probability),
            float(logit),
            reading.calibration.thresholds[label.name],
            counted=label.name not in untrained,
        )
        for label, probability, logit in zip(bundle.labels, reading.probabilities, reading.logits, strict=True)
    )
    record["calibration"] = {"group": reading.calibration.group or "everyone", "by": reading.calibrated_by}
    return ImageReading(image, prepared, reading, tuple(dict.fromkeys((*domain, *flags))), findings, record, grayscale)


def _finding(label: str, probability: float, logit: float, threshold: float, *, counted: bool) -> FindingRecord:
    # compared as stored, in double precision: what is marked positive must be so by the numbers beside the mark
    return FindingRecord(label, probability, logit, threshold, counted and probability >= threshold)


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
