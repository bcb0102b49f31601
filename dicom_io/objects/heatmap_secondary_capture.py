"""A heatmap as a Secondary Capture Image in the study it explains (PS3.3 A.8.1).

It depends neither on the clock nor on chance: the same source, image and request give the same bytes, so that they may
be resent under the same UID.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pydicom.valuerep import DSfloat

from dicom_io.errors import StatedError
from dicom_io.header import parsing
from dicom_io.header.radiograph_words import region_words
from dicom_io.objects import lossy_compression
from dicom_io.objects.patient_and_study import copy_identity
from dicom_io.terms import MANUFACTURER, MANUFACTURER_MODEL_NAME
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derive_uid, uid_problem

_LO = 64
_ST = 1024


class NoObjectPossible(StatedError, ValueError):
    """The source lacks a UID that its study's objects need, or has an invalid one; `reason` names it."""


@dataclass(frozen=True)
class HeatmapRequest:
    """The content of a heatmap object besides its image and its source.

    Attributes
    ----------
    installation_id, object_key, series_key
        Keys that the UIDs of object and series are derived from.
    label, probability, threshold
        The finding explained; probability and threshold in 0 .. 1.
    model_name, model_digest, application_version
        The algorithm, as recorded in the equipment modules.
    model_variant
        What tells apart networks of one digest, such as ``int8``; empty for the network as it was trained.
    created
        When its row was made, in the site's zone; written in the source's zone where the source states one.
    instance_number
        In the series, from 1.
    pixel_spacing
        Of the image, mm between rows and between columns; None where unknown.
    patient_orientation
        Of the image; ``L\\F`` in display orientation.
    spatial_locations_preserved
        Whether the image has the pixel positions of the source.
    content_qualification
        PRODUCT, RESEARCH or SERVICE.
    derivation
        Derivation Description; made from the request where empty.
    """

    installation_id: UUID
    object_key: str
    series_key: str
    label: str
    probability: float
    threshold: float
    model_name: str
    model_digest: str
    application_version: str
    created: datetime
    model_variant: str = ""
    series_number: int = 9001
    instance_number: int = 1
    spatial_locations_preserved: bool = False
    pixel_spacing: tuple[float, float] | None = None
    patient_orientation: str = ""
    content_qualification: str = "RESEARCH"
    derivation: str = ""


def heatmap_secondary_capture(
    source: Path | bytes, rgb: NDArray[np.uint8], request: HeatmapRequest
) -> tuple[str, bytes]:
    """Make the Secondary Capture of one heatmap.

    Parameters
    ----------
    source
        The radiograph that it explains: a DICOM file, or the bytes of one.
    rgb
        uint8 [rows, columns, 3], the image with its legend, without burned-in patient data.
    request
        Its other content.

    Returns
    -------
    tuple of str and bytes
        Its SOP Instance UID, and a complete DICOM file in explicit VR little endian.

    Raises
    ------
    ValueError
        If the image is not uint8 [rows, columns, 3], or `created` has no zone.
    NoObjectPossible
        If the source's UIDs do not allow one.
    UnreadableDicom
        If the source is not DICOM.
    OSError
        If the source cannot be read.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size or max(rgb.shape) > 0xFFFF:
        raise ValueError(f"the image is {rgb.dtype} {rgb.shape}; it must be uint8 [rows, columns, 3]")
    if request.created.tzinfo is None:
        raise ValueError(f"created is {request.created}; it must have a time zone")
    header, _ = parsing.parse_header(source)
    for keyword in ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        if problem := uid_problem(parsing.text(header, keyword)):
            raise NoObjectPossible(f"{keyword} {problem}")

    sop_instance_uid = derive_uid(request.installation_id, request.object_key)
    dataset = Dataset()
    copy_identity(header, dataset)
    _add_instance(dataset, header, sop_instance_uid, request)
    _add_series_and_equipment(dataset, request)
    _add_image(dataset, header, request)
    _add_source(dataset, header, request)
    lossy_compression.add_lossy_history(dataset, header, source)
    _add_pixels(dataset, rgb)
    return sop_instance_uid, _written(dataset, sop_instance_uid)


def _add_instance(dataset: Dataset, header: Dataset, sop_instance_uid: str, request: HeatmapRequest) -> None:
    """SOP Common (PS3.3 C.12.1) and the dates, in the zone of the source."""
    zone = _zone(header)
    created = request.created
    if zone is not None:
        created = created.astimezone(zone)
        dataset.TimezoneOffsetFromUTC = created.strftime("%z")
    day, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S.%f")
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, time
    dataset.InstanceCreatorUID = IMPLEMENTATION_CLASS_UID
    dataset.ContentDate, dataset.ContentTime = day, time
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = day, time
    dataset.InstanceNumber = request.instance_number
    dataset.ContentQualification = request.content_qualification


def _zone(header: Dataset) -> timezone | None:
    stated = parsing.text(header, "TimezoneOffsetFromUTC")
    if len(stated) != 5 or stated[0] not in "+-" or not stated[1:].isascii() or not stated[1:].isdigit():
        return None
    offset = timedelta(hours=int(stated[1:3]), minutes=int(stated[3:]))
    if offset > timedelta(hours=14) or int(stated[3:]) > 59:
        return None
    return timezone(offset if stated[0] == "+" else -offset)


def _add_series_and_equipment(dataset: Dataset, request: HeatmapRequest) -> None:
    algorithm = ":".join(filter(None, ("device", request.model_digest, request.model_variant)))
    serial, device = str(request.installation_id), derive_uid(request.installation_id, algorithm)
    versions = [request.application_version[:_LO], f"{request.model_name} {request.model_digest}"[:_LO]]
    versions += [request.model_variant[:_LO]] if request.model_variant else []
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.SeriesInstanceUID = derive_uid(request.installation_id, request.series_key)
    dataset.SeriesNumber = request.series_number
    dataset.SeriesDescription = f"AI {request.model_name}"[: _LO - 20] + " - not for diagnosis"

    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MANUFACTURER_MODEL_NAME
    dataset.DeviceSerialNumber = serial
    dataset.SoftwareVersions = versions
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = Sequence([_code("109102", "DCM", "Processing Equipment")])
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = MANUFACTURER_MODEL_NAME
    equipment.DeviceSerialNumber = serial
    equipment.SoftwareVersions = versions
    equipment.DeviceUID = device
    equipment.ContributionDescription = "Heatmap of an automatic reading"
    dataset.ContributingEquipmentSequence = Sequence([equipment])


def _add_image(dataset: Dataset, header: Dataset, request: HeatmapRequest) -> None:
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    _add_burned_in_annotation(dataset, header)
    dataset.PatientOrientation = request.patient_orientation.split("\\") if request.patient_orientation else None
    dataset.DerivationDescription = (request.derivation or _derivation(request))[:_ST]
    _add_region(dataset, header)
    if request.pixel_spacing is not None and min(request.pixel_spacing) > 0:
        dataset.PixelSpacing = [DSfloat(value, auto_format=True) for value in request.pixel_spacing]


def _add_burned_in_annotation(dataset: Dataset, header: Dataset) -> None:
    """Say whether the picture identifies patient and date (PS3.3 C.7.6.1): the legend does not, the radiograph may.

    A Secondary Capture that does not say so may be a scanned film with its label: then nothing is said.
    """
    stated = parsing.text(header, "BurnedInAnnotation").upper()
    if stated == "YES":
        dataset.BurnedInAnnotation = "YES"
    elif stated == "NO" or parsing.text(header, "SOPClassUID") != SecondaryCaptureImageStorage:
        dataset.BurnedInAnnotation = "NO"


def _add_region(dataset: Dataset, header: Dataset) -> None:
    """Set the body part; Laterality (2C) is required unless the body part is known to be unpaired, as the chest is."""
    body_part = parsing.text(header, "BodyPartExamined").upper()
    chest, other = region_words(body_part, is_body_part=True)
    if chest and not other:
        dataset.BodyPartExamined = "CHEST"
        return
    if body_part and body_part.isascii():
        dataset.BodyPartExamined = body_part[:16]
    laterality = parsing.text(header, "Laterality").upper()
    dataset.Laterality = laterality if laterality in {"L", "R"} else None


def _derivation(request: HeatmapRequest) -> str:
    return (
        f"Grad-CAM heatmap of {request.label}: probability {request.probability:.4f}, threshold "
        f"{request.threshold:.4f}; model {request.model_name} {request.model_digest}"
        f"{' ' if request.model_variant else ''}{request.model_variant}; research, not for diagnosis"
    )


def _add_source(dataset: Dataset, header: Dataset, request: HeatmapRequest) -> None:
    image = Dataset()
    image.ReferencedSOPClassUID = parsing.text(header, "SOPClassUID")
    image.ReferencedSOPInstanceUID = parsing.text(header, "SOPInstanceUID")
    image.PurposeOfReferenceCodeSequence = Sequence(
        [_code("121322", "DCM", "Source image for image processing operation")]
    )
    if request.spatial_locations_preserved:
        image.SpatialLocationsPreserved = "YES"
    dataset.SourceImageSequence = Sequence([image])


def _add_pixels(dataset: Dataset, rgb: NDArray[np.uint8]) -> None:
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = int(rgb.shape[0]), int(rgb.shape[1])
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    pixels = np.ascontiguousarray(rgb).tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _written(dataset: Dataset, sop_instance_uid: str) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
