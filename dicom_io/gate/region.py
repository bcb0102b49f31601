"""Which body region a header names: the first attribute that names one counts, and others that contradict are told."""

from dataclasses import dataclass

from dicom_io.gate.site_rules import masked
from dicom_io.header.coded_values import CodedValue, standard_meaning
from dicom_io.header.instance_header import InstanceHeader
from dicom_io.header.radiograph_words import region_words

# Chest, thorax and lung (CID 4031 and its earlier editions): SNOMED CT, and the SRT codes of thorax and lung.
_CHEST_CODES = {
    ("SCT", "816094009"),
    ("SCT", "51185008"),
    ("SCT", "43799004"),
    ("SCT", "39607008"),
    ("SRT", "T-D3000"),
    ("SRT", "T-28000"),
}
# Codes of CID 4031 that a radiograph of the chest may have without naming it: the whole body and organs in the chest.
_NO_REGION = {"Entire body", "Heart", "Mediastinum", "Bronchus", "Trachea", "Esophagus", "Phantom"}
REGION_CODES = (4031,)  # the context group of anatomic regions in PS3.16
DESCRIPTION = "a description of study, series or protocol"


@dataclass(frozen=True)
class Region:
    """The region of one instance.

    Attributes
    ----------
    source, value
        The attribute that names it and what it says, without patient data; ``""`` where none does.
    is_chest
        None where no attribute names a region that is known.
    flags
        What else the image shows by the same attribute, and an attribute that names another region.
    """

    source: str = ""
    value: str = ""
    is_chest: bool | None = None
    flags: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """Source and value as a clause."""
        return f"{self.source} {'says' if self.source == DESCRIPTION else 'is'} {self.value}"


def region_of(header: InstanceHeader) -> Region:
    """Find the region: the code, else the body part, else words of series and protocol, else of study and procedure.

    A code or word that is not known says nothing. Chest and another region in one attribute are the chest, with a flag
    where it describes this image (``CHEST_TO_ABDOMEN``) and not the study.
    """
    named = [
        region
        for region in (
            _by_code(header.anatomic_region),
            _by_words("BodyPartExamined", header.body_part, is_body_part=True),
            _by_words(DESCRIPTION, header.series_text),
            _by_words(DESCRIPTION, header.region_text),
        )
        if region.is_chest is not None
    ]
    if not named:
        return Region()
    first = named[0]
    others = [each.says for each in named[1:] if each.is_chest is False] if first.is_chest else []
    contradiction = (f"region contradictory: {others[0]}",) if others else ()
    return Region(first.source, first.value, first.is_chest, (*first.flags, *contradiction))


def _by_code(code: CodedValue | None) -> Region:
    if code is None:
        return Region()
    source, value = "AnatomicRegionSequence", f"{masked(code.value)} {masked(code.scheme)}"
    if (code.scheme, code.value) in _CHEST_CODES:
        return Region(source, value, True)
    meaning = standard_meaning(code, REGION_CODES)
    if meaning is None:
        return _judged(source, value, region_words(code.meaning))
    if meaning in _NO_REGION:
        return Region()
    region = _judged(source, value, region_words(meaning))
    return Region(source, value, False) if region.is_chest is None else region


def _judged(source: str, value: str, words: tuple[list[str], list[str]]) -> Region:
    chest, other = words
    if chest:
        more = [word for word in chest if word == "BABYGRAM"] + other
        return Region(source, value, True, (f"more than the chest: {', '.join(dict.fromkeys(more))}",) if more else ())
    return Region(source, value, False) if other else Region()


def _by_words(source: str, text: str, *, is_body_part: bool = False) -> Region:
    chest, other = region_words(text, is_body_part=is_body_part)
    if is_body_part:
        return _judged(source, " ".join(dict.fromkeys(chest + other)), (chest, other))
    return Region(source, (chest or other)[0], bool(chest)) if chest or other else Region()
