"""Copies patient, study and order attributes from a source to an object made of it.

Attributes are decoded by the source's character set and written as ISO_IR 192 (UTF-8); raw elements copied from another
character set would be read as other names. Where one of them cannot be decoded, all texts keep their bytes and the
object the source's SpecificCharacterSet, so that every reader sees of it what it sees of the source. Values are kept,
except that dates in ACR-NEMA form are converted, and malformed dates, times, ages and numbers become empty.
"""

import re
from collections.abc import Sequence

from pydicom import charset, config
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
_ASCII = "".join(map(chr, range(0x20, 0x7F)))


def copy_identity(source: Dataset, target: Dataset) -> None:
    """Copy the identity of `source` to `target`, and set the SpecificCharacterSet that it must be written with."""
    copying = _Copying(source)
    elements = copying.identity()
    target.SpecificCharacterSet = "ISO_IR 192"
    if not copying.decodable:
        copying.verbatim = True
        elements = copying.identity()
        del target.SpecificCharacterSet
        if (terms := _terms(source)) is not None:
            target.add(terms)
    for element in elements:
        target.add(element)
    for keyword in _ALWAYS:
        if keyword not in target:
            setattr(target, keyword, None)


def _terms(dataset: Dataset) -> DataElement | None:
    """SpecificCharacterSet as it is written, without characters that no term has.

    None where it is missing, or pydicom would encode our own texts by it as other bytes than ASCII (UTF-16, ROT13).
    """
    terms = [re.sub("[^ -~]", "", term) for term in parsing.character_set_terms(dataset)]
    if not any(terms):
        return None
    try:
        is_ascii = _ASCII.encode(charset.convert_encodings(terms)[0]) == _ASCII.encode()
    except (LookupError, UnicodeError):
        return None
    return DataElement(Tag("SpecificCharacterSet"), "CS", terms, validation_mode=config.IGNORE) if is_ascii else None


class _Copying:
    """One pass over the identity of a source.

    Attributes
    ----------
    verbatim
        Whether texts are copied undecoded.
    decodable
        Whether all texts copied so far could be decoded.
    """

    def __init__(self, source: Dataset) -> None:
        self._source = source
        self.verbatim = False
        self.decodable = True

    def identity(self) -> list[DataElement]:
        source = self._source
        copies = [
            self._copied(source, Tag(keyword), source, 0) for keyword in _KEYWORDS if parsing.has(source, keyword)
        ]
        return [element for element in copies if element is not None]

    def _copied(self, holder: Dataset, tag: BaseTag, root: Dataset, depth: int) -> DataElement | None:
        """Copy one element; the character set of `root` applies where an item has none."""
        own = _dictionary_vr(tag)
        if own in _TEXT:  # undecoded: a sender that writes an ID as OB or US still means text
            return self._copied_text(holder, tag, own, root)
        try:
            vr = str(holder[tag].VR)
        except parsing.VALUE_ERRORS:
            return None
        if own not in (None, vr):
            return None  # such as numbers where a sequence is required: readers of the object would fail
        if vr == "SQ":
            if depth > _DEEPEST:
                return None
            items = [self._copied_item(item, root, depth + 1) for item in parsing.items(holder, tag)]
            return DataElement(tag, "SQ", DicomSequence(items))
        if vr in _TEXT:
            return self._copied_text(holder, tag, vr, root)
        return DataElement(tag, vr, holder[tag].value, validation_mode=config.IGNORE)

    def _copied_item(self, item: Dataset, root: Dataset, depth: int) -> Dataset:
        result = Dataset()
        for tag in sorted(item.keys()):
            if tag.is_private:
                continue
            if tag == Tag("SpecificCharacterSet"):
                element = _terms(item) if self.verbatim else None
            else:
                element = self._copied(item, tag, item if "SpecificCharacterSet" in item else root, depth)
            if element is not None:
                result.add(element)
        return result

    def _copied_text(self, holder: Dataset, tag: BaseTag, vr: str, root: Dataset) -> DataElement:
        character_set = holder if "SpecificCharacterSet" in holder else root
        if vr not in _PLAIN:
            self.decodable = self.decodable and parsing.is_decodable(holder, tag, character_set)
            raw = parsing.raw_element(holder, tag)
            if self.verbatim and raw is not None and isinstance(raw.value, bytes):
                return DataElement(tag, vr, raw.value, validation_mode=config.IGNORE)  # bytes are written as they are
        members = _members(holder, tag, vr, character_set)
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
