"""The header values of one instance that the gate, the worker and the database use.

Pixels are not read. Text is decoded by its character set; missing text is ``""``, an unknown value is None.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial

from pydicom.dataset import Dataset

from dicom_io.header import parsing
from dicom_io.header.attribute_path import TagPath, header_tags, values
from dicom_io.header.parsing import Openable, UnreadableDicom

__all__ = [
    "CodedValue",
    "Equipment",
    "InstanceHeader",
    "SiteValue",
    "UnreadableDicom",
    "read_header",
    "with_site_values",
]

OLDEST_AGE_YEARS = 130.0
_DAYS_A_YEAR = 365.25
_AGE_UNITS = {"D": 1 / _DAYS_A_YEAR, "W": 7 / _DAYS_A_YEAR, "M": 1 / 12, "Y": 1.0}

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
    PerformedProtocolCodeSequence ViewCodeSequence
    """,
)

# DX View, CID 4010: (scheme, code) -> the term of ViewPosition (PS3.3 C.8.1.2.1.1). The SRT codes are those that
# pydicom.sr's SNOMED table maps to the SCT ones.
_VIEW_CODES = {
    ("SCT", "272479007"): "PA",
    ("SRT", "R-40888"): "PA",
    ("SCT", "399348003"): "AP",
    ("SRT", "R-10206"): "AP",
    ("SCT", "399067008"): "LATERAL",
    ("SRT", "R-102CD"): "LATERAL",
    ("SCT", "399173006"): "LATERAL",
    ("SRT", "R-10236"): "LATERAL",
    ("SCT", "399198007"): "LATERAL",
    ("SRT", "R-10232"): "LATERAL",
}
_SRT_SYNONYMS = {"SNM3", "99SDM"}  # older designators of the same codes (PS3.16 8)
# the lateral terms of ViewPosition (PS3.3 C.8.7.1.1.2), and words that modalities write instead
_LATERAL_POSITIONS = {"LL", "RL", "LLD", "RLD", "LAT", "LATERAL", "LATERALE", "LT LAT", "RT LAT", "LLAT", "RLAT"}


@dataclass(frozen=True)
class CodedValue:
    """An item of a code sequence: code value, coding scheme designator, code meaning (PS3.3 8)."""

    value: str
    scheme: str
    meaning: str = ""


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
    age_years, age_source
        None where unknown or impossible; the attributes it is from.
    view, view_source
        PA, AP, LATERAL, another term of ViewPosition, or None where unknown; the attribute it is from.
    region_text
        The descriptions of study, series, protocol and procedure, joined.
    has_pixels
        Whether an attribute with pixels exists, not whether they can be decoded.
    site
        The values of the attributes of the site's rules.
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
    view: str | None = None
    view_source: str = ""
    body_part: str = ""
    anatomic_region: CodedValue | None = None
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
    dataset, has_pixels = parsing.parse_header(source, [*_KEYWORDS, *header_tags(tags)] if tags else _KEYWORDS)
    one = partial(parsing.text, dataset)
    sop_class = one("SOPClassUID")
    if not sop_class and not (has_pixels and parsing.number(dataset, "Rows")):
        raise UnreadableDicom("not a DICOM composite object: SOPClassUID (0008,0016) is missing")
    view, view_source = _view(dataset)
    age, age_source = _age(dataset)
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
        age_years=age,
        age_source=age_source,
        view=view,
        view_source=view_source,
        body_part=one("BodyPartExamined").upper(),
        anatomic_region=_code(dataset, "AnatomicRegionSequence"),
        region_text=_region_text(dataset),
        image_type=tuple(member.upper() for member in parsing.texts(dataset, "ImageType")),
        presentation_intent=one("PresentationIntentType").upper(),
        manufacturer=one("Manufacturer"),
        model_name=one("ManufacturerModelName"),
        contributing_equipment=_contributing_equipment(dataset),
        quality_control_image=one("QualityControlImage").upper(),
        quality_control_subject=one("QualityControlSubject").upper(),
        content_qualification=one("ContentQualification").upper(),
        species=one("PatientSpeciesDescription"),
        species_code=_code(dataset, "PatientSpeciesCodeSequence"),
        patient_orientation=tuple(member.upper() for member in parsing.texts(dataset, "PatientOrientation")),
        rows=parsing.integer(dataset, "Rows", 0),
        columns=parsing.integer(dataset, "Columns", 0),
        frames=parsing.integer(dataset, "NumberOfFrames", 0) or 1,
        samples_per_pixel=parsing.integer(dataset, "SamplesPerPixel", 0),
        photometric=one("PhotometricInterpretation").upper(),
        bits_allocated=parsing.integer(dataset, "BitsAllocated", 0),
        bits_stored=parsing.integer(dataset, "BitsStored", 0),
        lossy=one("LossyImageCompression") == "01",
        has_pixels=has_pixels,
        site=tuple(SiteValue(tag.text, values(dataset, tag)) for tag in dict.fromkeys(tags)),
    )


def with_site_values(header: InstanceHeader, source: Openable | bytes, tags: Sequence[TagPath]) -> InstanceHeader:
    """Return a header with the values of `tags`: `header` where it has them, else `source` read again."""
    held = {value.tag for value in header.site}
    return header if all(tag.text in held for tag in tags) else read_header(source, tags)


def _code(dataset: Dataset, keyword: str) -> CodedValue | None:
    for item in parsing.items(dataset, keyword):
        value = parsing.text(item, "CodeValue") or parsing.text(item, "LongCodeValue")
        if value:
            scheme = parsing.text(item, "CodingSchemeDesignator").upper()
            scheme = "SRT" if scheme in _SRT_SYNONYMS else scheme
            return CodedValue(value, scheme, parsing.text(item, "CodeMeaning"))
    return None


def _contributing_equipment(dataset: Dataset) -> tuple[Equipment, ...]:
    return tuple(
        Equipment(
            parsing.text(item, "Manufacturer"),
            parsing.text(item, "ManufacturerModelName"),
            parsing.text(item, "DeviceUID"),
        )
        for item in parsing.items(dataset, "ContributingEquipmentSequence")
    )


def _region_text(dataset: Dataset) -> str:
    found = [
        parsing.text(dataset, keyword)
        for keyword in (
            "StudyDescription",
            "SeriesDescription",
            "ProtocolName",
            "RequestedProcedureDescription",
            "PerformedProcedureStepDescription",
            "AcquisitionDeviceProcessingDescription",
        )
    ]
    for keyword in ("ProcedureCodeSequence", "PerformedProtocolCodeSequence"):
        code = _code(dataset, keyword)
        found.append(code.meaning if code else "")
    for item in parsing.items(dataset, "RequestAttributesSequence"):
        found.append(parsing.text(item, "RequestedProcedureDescription"))
        found.append(parsing.text(item, "ScheduledProcedureStepDescription"))
    return " | ".join(part for part in found if part)


def _view(dataset: Dataset) -> tuple[str | None, str]:
    """Find the view: ViewPosition, else ViewCodeSequence, else a series description with "lateral" alone."""
    position = parsing.text(dataset, "ViewPosition").upper()
    if position:
        return ("LATERAL" if position in _LATERAL_POSITIONS else position), "ViewPosition"
    code = _code(dataset, "ViewCodeSequence")
    if code is not None:
        return _VIEW_CODES.get((code.scheme, code.value), f"{code.value} {code.scheme}"), "ViewCodeSequence"
    # StudyDescription is left out: "CHEST PA AND LATERAL" stands in both images of a study
    for keyword in ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"):
        words = set(re.findall(r"[A-Z]+", parsing.text(dataset, keyword).upper()))
        if words & {"LAT", "LATERAL"} and not words & {"PA", "AP", "FRONTAL"}:
            return "LATERAL", keyword
    return None, ""


def _age(dataset: Dataset) -> tuple[float | None, str]:
    """Age in years from PatientAge, else from birth date to acquisition date; study dates are too unreliable."""
    stated = re.fullmatch(r"\s*(\d{1,3})\s*([DWMY])\s*", parsing.text(dataset, "PatientAge").upper())
    if stated:
        years = int(stated[1]) * _AGE_UNITS[stated[2]]
        return (years, "PatientAge") if years <= OLDEST_AGE_YEARS else (None, "")
    born = _date(parsing.text(dataset, "PatientBirthDate"))
    taken = _date(parsing.text(dataset, "AcquisitionDate") or parsing.text(dataset, "AcquisitionDateTime")[:8])
    if born is None or taken is None:
        return None, ""
    years = (taken - born).days / _DAYS_A_YEAR
    return (years, "PatientBirthDate and AcquisitionDate") if 0 <= years <= OLDEST_AGE_YEARS else (None, "")


def _date(text: str) -> date | None:
    """Parse a DA, also in the form of ACR-NEMA (1993.02.24, PS3.5 6.2 note)."""
    digits = text.strip().replace(".", "")
    if not re.fullmatch(r"[0-9]{8}", digits):
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007  (a calendar day has no zone)
    except ValueError:
        return None
