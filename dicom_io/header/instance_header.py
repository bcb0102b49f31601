"""The header values of one instance that the gate, the worker and the database use.

Pixels are not read. Text is decoded by its character set; missing text is ``""``, an unknown value is None.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pydicom.dataset import Dataset

from dicom_io.header import parsing
from dicom_io.header.age import age_of
from dicom_io.header.attribute_path import TagPath, header_tags, values
from dicom_io.header.coded_values import CodedValue, first_code
from dicom_io.header.frames import number_of_frames
from dicom_io.header.parsing import Openable, UnreadableDicom
from dicom_io.header.repeated_elements import flag_for, repeated_elements
from dicom_io.header.view import SERIES_TEXTS, STUDY_TEXTS, view_of

__all__ = [
    "CodedValue",
    "Equipment",
    "InstanceHeader",
    "SiteValue",
    "UnreadableDicom",
    "read_header",
    "with_site_values",
]

_KEYWORDS = re.findall(
    r"\w+",
    """
    SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID StudyDate StudyTime AcquisitionDate
    AcquisitionDateTime AccessionNumber Modality PresentationIntentType Manufacturer ManufacturerModelName
    StudyDescription SeriesDescription ProcedureCodeSequence AnatomicRegionSequence PatientName PatientID
    IssuerOfPatientID PatientBirthDate PatientSex PatientAge PatientSpeciesDescription PatientSpeciesCodeSequence
    PatientBreedDescription BodyPartExamined ProtocolName AcquisitionDeviceProcessingDescription
    ContentQualification ContributingEquipmentSequence ViewPosition StudyInstanceUID SeriesInstanceUID SeriesNumber
    InstanceNumber PatientOrientation SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows Columns
    BitsAllocated BitsStored QualityControlImage QualityControlSubject LossyImageCompression
    RequestedProcedureDescription RequestAttributesSequence PerformedProcedureStepDescription
    PerformedProtocolCodeSequence ViewCodeSequence PatientOrientationCodeSequence
    """,
)

# what people identify an image by -> how its flag calls it
_IDENTIFYING_TEXTS = {
    "PatientName": "name",
    "PatientID": "patient ID",
    "AccessionNumber": "accession number",
    "StudyDescription": "study description",
}


@dataclass(frozen=True)
class Equipment:
    """An item of ContributingEquipmentSequence (0018,A001)."""

    manufacturer: str
    model: str
    device_uid: str


@dataclass(frozen=True)
class SiteValue:
    """The values of an attribute of a site's rule; None: missing or empty. May be patient data."""

    tag: str
    values: tuple[str, ...] | None = field(repr=False)


@dataclass(frozen=True)
class InstanceHeader:
    """Header values of one instance; patient data are left out of `repr`, so that no log line contains them.

    Attributes
    ----------
    age_years, age_source, age_contradictory
        As in `dicom_io.header.age.Age`.
    view, view_source, view_statements, view_contradictory
        As in `dicom_io.header.view.View`.
    series_text
        The descriptions of series and protocol, joined.
    region_text
        Those, and the descriptions of study and procedure.
    has_pixels
        Whether an attribute with pixels exists, not whether they can be decoded.
    site
        The values of the attributes of the site's rules.
    flags
        What is wrong with the header itself: ``name not decodable``, ``repeated element: PatientID``.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str = ""
    patient_id: str = field(default="", repr=False)
    issuer_of_patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)
    patient_birth_date: str = field(default="", repr=False)
    patient_sex: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    study_time: str = field(default="", repr=False)
    study_description: str = field(default="", repr=False)
    series_description: str = field(default="", repr=False)
    series_number: int | None = None
    instance_number: int | None = None
    acquisition_date: str = field(default="", repr=False)
    age_years: float | None = field(default=None, repr=False)
    age_source: str = ""
    age_contradictory: bool = False
    view: str | None = None
    view_source: str = ""
    view_statements: tuple[tuple[str, str], ...] = ()
    view_contradictory: bool = False
    body_part: str = ""
    anatomic_region: CodedValue | None = None
    series_text: str = field(default="", repr=False)
    region_text: str = field(default="", repr=False)
    image_type: tuple[str, ...] = ()
    presentation_intent: str = ""
    manufacturer: str = ""
    model_name: str = ""
    contributing_equipment: tuple[Equipment, ...] = ()
    quality_control_image: str = ""
    quality_control_subject: str = ""
    content_qualification: str = ""
    species: str = ""
    species_code: CodedValue | None = None
    patient_orientation: tuple[str, ...] = ()
    rows: int = 0
    columns: int = 0
    frames: int = 1
    samples_per_pixel: int = 0
    photometric: str = ""
    bits_allocated: int = 0
    bits_stored: int = 0
    lossy: bool = False
    has_pixels: bool = False
    site: tuple[SiteValue, ...] = field(default=(), repr=False)
    flags: tuple[str, ...] = ()


def read_header(source: Openable | bytes, tags: Sequence[TagPath] = ()) -> InstanceHeader:
    """Read the header values of one instance.

    Parameters
    ----------
    source
        A DICOM file, or the bytes of one; preamble and file meta may be missing.
    tags
        Attributes of the site's rules, to be read too.

    Raises
    ------
    UnreadableDicom
        If it is not DICOM, or has neither SOP Class UID nor pixels.
    OSError
        If the file cannot be read.
    """
    with repeated_elements() as repeated:
        header = _read_header(source, tags)
    return replace(header, flags=(*header.flags, *map(flag_for, repeated))) if repeated else header


def _read_header(source: Openable | bytes, tags: Sequence[TagPath]) -> InstanceHeader:
    dataset, has_pixels = parsing.parse_header(source, [*_KEYWORDS, *header_tags(tags)] if tags else _KEYWORDS)
    one = partial(parsing.text, dataset)
    sop_class = one("SOPClassUID")
    if not sop_class and not (has_pixels and parsing.number(dataset, "Rows")):
        raise UnreadableDicom("not a DICOM composite object: SOPClassUID (0008,0016) is missing")
    view = view_of(dataset)
    series_text = _series_text(dataset)
    age = age_of(dataset)
    return InstanceHeader(
        sop_class_uid=sop_class,
        sop_instance_uid=one("SOPInstanceUID"),
        study_instance_uid=one("StudyInstanceUID"),
        series_instance_uid=one("SeriesInstanceUID"),
        transfer_syntax_uid=parsing.transfer_syntax(dataset),
        modality=one("Modality").upper(),
        patient_id=one("PatientID"),
        issuer_of_patient_id=one("IssuerOfPatientID"),
        patient_name=one("PatientName"),
        patient_birth_date=one("PatientBirthDate"),
        patient_sex=one("PatientSex").upper(),
        accession_number=one("AccessionNumber"),
        study_date=one("StudyDate"),
        study_time=one("StudyTime"),
        study_description=one("StudyDescription"),
        series_description=one("SeriesDescription"),
        series_number=parsing.integer(dataset, "SeriesNumber", None),
        instance_number=parsing.integer(dataset, "InstanceNumber", None),
        acquisition_date=one("AcquisitionDate") or one("AcquisitionDateTime")[:8],
        age_years=age.years,
        age_source=age.source,
        age_contradictory=age.contradictory,
        view=view.term,
        view_source=view.source,
        view_statements=view.statements,
        view_contradictory=view.contradictory,
        body_part=one("BodyPartExamined").upper(),
        anatomic_region=first_code(dataset, "AnatomicRegionSequence"),
        series_text=series_text,
        region_text=_joined([series_text, _study_text(dataset)]),
        image_type=tuple(member.upper() for member in parsing.texts(dataset, "ImageType")),
        presentation_intent=one("PresentationIntentType").upper(),
        manufacturer=one("Manufacturer"),
        model_name=one("ManufacturerModelName"),
        contributing_equipment=_contributing_equipment(dataset),
        quality_control_image=one("QualityControlImage").upper(),
        quality_control_subject=one("QualityControlSubject").upper(),
        content_qualification=one("ContentQualification").upper(),
        species=one("PatientSpeciesDescription"),
        species_code=first_code(dataset, "PatientSpeciesCodeSequence"),
        patient_orientation=tuple(member.upper() for member in parsing.texts(dataset, "PatientOrientation")),
        rows=parsing.integer(dataset, "Rows", 0),
        columns=parsing.integer(dataset, "Columns", 0),
        frames=number_of_frames(dataset),
        samples_per_pixel=parsing.integer(dataset, "SamplesPerPixel", 0),
        photometric=one("PhotometricInterpretation").upper(),
        bits_allocated=parsing.integer(dataset, "BitsAllocated", 0),
        bits_stored=parsing.integer(dataset, "BitsStored", 0),
        lossy=one("LossyImageCompression") == "01",
        has_pixels=has_pixels,
        site=tuple(SiteValue(tag.text, values(dataset, tag)) for tag in dict.fromkeys(tags)),
        flags=tuple(
            f"{name} not decodable"
            for keyword, name in _IDENTIFYING_TEXTS.items()
            if not parsing.is_decodable(dataset, keyword)
        ),
    )


def with_site_values(header: InstanceHeader, source: Openable | bytes, tags: Sequence[TagPath]) -> InstanceHeader:
    """Return a header with the values of `tags`: `header` where it has them, else `source` read again."""
    held = {value.tag for value in header.site}
    return header if all(tag.text in held for tag in tags) else read_header(source, tags)


def _contributing_equipment(dataset: Dataset) -> tuple[Equipment, ...]:
    return tuple(
        Equipment(
            parsing.text(item, "Manufacturer"),
            parsing.text(item, "ManufacturerModelName"),
            parsing.text(item, "DeviceUID"),
        )
        for item in parsing.items(dataset, "ContributingEquipmentSequence")
    )


def _series_text(dataset: Dataset) -> str:
    code = first_code(dataset, "PerformedProtocolCodeSequence")
    texts = [parsing.text(dataset, keyword) for keyword in SERIES_TEXTS]
    return _joined([*texts, code.meaning if code else ""])


def _study_text(dataset: Dataset) -> str:
    code = first_code(dataset, "ProcedureCodeSequence")
    found = [*(parsing.text(dataset, keyword) for keyword in STUDY_TEXTS), code.meaning if code else ""]
    for item in parsing.items(dataset, "RequestAttributesSequence"):
        found.append(parsing.text(item, "RequestedProcedureDescription"))
        found.append(parsing.text(item, "ScheduledProcedureStepDescription"))
    return _joined(found)


def _joined(texts: Sequence[str]) -> str:
    return " | ".join(part for part in texts if part)
