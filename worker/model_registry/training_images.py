"""DICOM images as training and evaluation read them: the same pixels and header values as the worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from dicom_io.pixels.grayscale import SufficientResolution
    from model.dataset.samples import ImageMetadata
    from model.preprocessing.tensor import Preprocessing

    Image = NDArray[np.float32]


def read_facts(path: Path) -> ImageMetadata:
    """Return what a training image says of its patient: a DICOM file its header, a picture nothing.

    Raises
    ------
    model.preprocessing.image_files.UnreadableImage
        The header cannot be read.
    """
    from dicom_io.header.input_files import kind_of
    from dicom_io.header.instance_header import UnreadableDicom, read_header
    from model.dataset.samples import ImageMetadata
    from model.preprocessing.image_files import UnreadableImage

    if kind_of(path) != "dicom":
        return ImageMetadata()
    try:
        facts = read_header(path)
    except UnreadableDicom as error:
        raise UnreadableImage(f"{path}: {error}") from error
    patient = "^".join(filter(None, (facts.patient_id, facts.issuer_of_patient_id)))
    sex = facts.patient_sex if facts.patient_sex in ("F", "M", "O") else None
    return ImageMetadata(patient, facts.age_years, facts.view, sex)


def reading_as_the_worker(spec: Preprocessing, *, reduced_resolution: bool = True) -> Callable[[Path], Image]:
    """Return what reads an image for this preprocessing to the pixels that the worker's tensors are made of."""
    from worker.model_registry.preprocessing import enough_of

    return partial(read_image, enough=enough_of(spec) if reduced_resolution else None)


def read_image(path: Path, enough: SufficientResolution | None = None) -> Image:
    """Read one training image, DICOM or picture, through the functions the worker uses; float32 [rows, columns].

    Raises
    ------
    model.preprocessing.image_files.UnreadableImage
        With a reason; the training lists such files and goes on.
    """
    from dicom_io.header.input_files import kind_of
    from dicom_io.header.instance_header import UnreadableDicom
    from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
    from model.preprocessing.image_files import UnreadableImage, read_raster

    kind = kind_of(path)
    if kind == "unknown":
        raise UnreadableImage(f"{path} is neither DICOM, PNG nor JPEG ({path.stat().st_size} bytes)")
    if kind != "dicom":
        return read_raster(path)
    try:
        return read_grayscale(path, enough).image
    except (PixelsUnreadable, UnreadableDicom) as error:
        raise UnreadableImage(f"{path}: {error}") from error
