"""Copies patient, study and order attributes from a source to an object made of it.

Attributes are decoded by the source's character set and written as ISO_IR 192 (UTF-8); raw elements copied from another
character set would be read as other names. Values are kept, except that dates in ACR-NEMA form are converted, and
malformed dates, times, ages and numbers become empty.
"""

import re
from collections.abc import Sequence

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from dicom_io.header import parsing

# Patient, General Study, Patient Study and Clinical Trial modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3, C.7.2.3)
# and the order: the attributes in which all objects of a study must agree.
_KEYWORDS = re.findall(
    r"\w+",
    """
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID PatientBirthDate
    PatientBirthTime PatientSex OtherPatientIDs OtherPatientIDsSequence OtherPatientNames EthnicGroup PatientComments
    PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence
    ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientIdentityRemoved DeidentificationMethod
    DeidentificationMethodCodeSequence ReferencedPatientSequence
    StudyInstanceUID StudyDate StudyTime ReferringPhysicianName ReferringPhysicianIdentificationSequence
    ConsultingPhysicianName StudyID AccessionNumber IssuerOfAccessionNumberSequence StudyDescription PhysiciansOfRecord
    PhysiciansOfRecordIdentificationSequence RequestingService ReferencedStudySequence ProcedureCodeSequence
    ReasonForPerformedProcedureCodeSequence
    AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight MedicalAlerts
    Allergies SmokingStatus PregnancyStatus LastMenstrualDate PatientState Occupation AdditionalPatientHistory
    AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID IssuerOfServiceEpisodeIDSequence
    ServiceEpisodeDescription PatientSexNeutered
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID
    ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialTimePointID
    ClinicalTrialTimePointDescription
    """,
)
# Type 2 attributes of the Patient and General Study modules: present, and empty where the source has none.
_ALWAYS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
# VRs of text by SpecificCharacterSet (PS3.5 6.2), and of plain ASCII; all others are binary.
_PLAIN = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
_TEXT = {"LO", "LT", "PN", "SH", "ST", "UC", "UT", *_PLAIN}
# Values of another form would make the object non-conformant: they become empty.
_FORMS = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "DA": re.compile(r"\d{8}"),
    "DS": re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *"),
    "IS": re.compile(r" *[+-]?\d{1,10} *"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
}
_DEEPEST = 8


def copy_identity(source: Dataset, target: Dataset) -> None:
    """Copy the identity of `source` to `target`, decoded; `target` must be written with ISO_IR 192."""
    for keyword in _KEYWORDS:
        if parsing.has(source, keyword):
            element = _copied(source, Tag(keyword), source, 0)
            if element is not None:
                target.add(element)
    for keyword in _ALWAYS:
        if keyword not in target:
            setattr(target, keyword, None)


def _copied(holder: Dataset, tag: BaseTag, root: Dataset, depth: int) -> DataElement | None:
    """Copy one element; the character set of `root` applies where an item has none."""
    own = _dictionary_vr(tag)
    if own in _TEXT:  # undecoded: a sender that writes an ID as OB or US still means text
        return _copied_text(holder, tag, own, root)
    try:
        vr = str(holder[tag].VR)
    except parsing.VALUE_ERRORS:
        return None
    if own not in (None, vr):
        return None  # such as numbers where a sequence is required: readers of the object would fail
    if vr == "SQ":
        if depth > _DEEPEST:
            return None
        items = [_copied_item(item, root, depth + 1) for item in parsing.items(holder, tag)]
        return DataElement(tag, "SQ", DicomSequence(items))
    if vr in _TEXT:
        return _copied_text(holder, tag, vr, root)
    return DataElement(tag, vr, holder[tag].value, validation_mode=config.IGNORE)


def _copied_text(holder: Dataset, tag: BaseTag, vr: str, root: Dataset) -> DataElement:
    members = _members(holder, tag, vr, holder if "SpecificCharacterSet" in holder else root)
    if vr in {"LT", "ST", "UT", "UR"}:  # a backslash is text in these
        return DataElement(tag, vr, "\\".join(members), validation_mode=config.IGNORE)
    value: str | Sequence[str] | None = members if len(members) > 1 else (members[0] if members else None)
    return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def _dictionary_vr(tag: BaseTag) -> str | None:
    """The VR of an attribute (PS3.6); None where it is unknown, or one of several."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return None
    return vr if len(vr) == 2 else None


def _copied_item(item: Dataset, root: Dataset, depth: int) -> Dataset:
    result = Dataset()
    for tag in sorted(item.keys()):
        if tag == Tag("SpecificCharacterSet") or tag.is_private:
            continue
        element = _copied(item, tag, item if "SpecificCharacterSet" in item else root, depth)
        if element is not None:
            result.add(element)
    return result


def _members(holder: Dataset, tag: BaseTag, vr: str, character_set: Dataset) -> list[str]:
    members = list(parsing.texts(holder, tag, character_set))
    if vr == "DA":  # 1993.02.24 of ACR-NEMA 300 (PS3.5 6.2)
        members = [re.sub(r"^(\d{4})\.(\d\d)\.(\d\d)$", r"\1\2\3", member) for member in members]
    if vr == "TM":
        members = [re.sub(r"^(\d\d):(\d\d):(\d\d)", r"\1\2\3", member) for member in members]
    if vr in _PLAIN:  # other characters are not allowed in any character set, and writers reject them
        members = [member if member.isascii() else "" for member in members]
    form = _FORMS.get(vr)
    return [member if form is None or form.fullmatch(member) else "" for member in members]
