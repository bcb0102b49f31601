"""One image, one pass: grayscale -> tensor -> network -> findings and maps.

The same functions serve `analyse` on the command line, a live image and a batch. Nothing here knows the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db.records import FindingRecord
from dicom_io.gate.decision import AGE_CONTRADICTORY
from dicom_io.pixels.grayscale import Grayscale, read_grayscale
from model.inference.domain_flags import domain_flags, untrained_labels
from model.inference.predictor import Predictor
from model.preprocessing.image_files import read_raster_file
from model.preprocessing.tensor import prepare
from worker.model_registry.preprocessing import enough_of
from worker.objects.request import ImageReading


def read_dicom(
    path: Path,
    reader: Predictor,
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
    dicom_io.pixels.grayscale.PixelsUnreadable
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


def read_picture(path: Path, reader: Predictor) -> ImageReading:
    """Read one PNG or JPEG radiograph, of which neither age nor view is known.

    Raises
    ------
    model.preprocessing.image_files.UnreadableImage
        With a reason a person can read.
    """
    raster = read_raster_file(path)
    return _read(
        raster.image,
        reader,
        age_years=None,
        view=None,
        flags=raster.flags,
        record=dict(raster.record),
        grayscale=None,
    )


def _read(
    image: NDArray[np.float32],
    reader: Predictor,
    *,
    age_years: float | None,
    view: str | None,
    flags: Sequence[str],
    record: dict[str, Any],
    grayscale: Grayscale | None,
) -> ImageReading:
    bundle = reader.bundle
    prepared = prepare(image, bundle.preprocessing)
    reading = reader.predict([prepared], [age_years])[0]
    domain = domain_flags(
        bundle,
        age_years,
        view,
        reading.ood_score,
        reading.calibration,
        age_contradiction=AGE_CONTRADICTORY if AGE_CONTRADICTORY in flags else "",
    )
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
    if bundle.heatmap.labels:  # pages draw by it, with or without the bundle
        scales = {name: [scale.floor, scale.full] for name, scale in bundle.heatmap.labels.items()}
        record["heatmap_scale"] = {"fitted_on": bundle.heatmap.fitted_on, "labels": scales}
    record["calibration"] = {"group": reading.calibration.group or "everyone", "by": reading.calibrated_by}
    return ImageReading(image, prepared, reading, tuple(dict.fromkeys((*domain, *flags))), findings, record, grayscale)


def _finding(label: str, probability: float, logit: float, threshold: float, *, counted: bool) -> FindingRecord:
    # compared as stored, in double precision: what is marked positive must be so by the numbers beside the mark
    return FindingRecord(label, probability, logit, threshold, counted and probability >= threshold)
