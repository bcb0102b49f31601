"""Items of code sequences, and the standard's own words for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pydicom.dataset import Dataset

from dicom_io.header import parsing

_SRT_SYNONYMS = {"SNM3", "99SDM"}  # older designators of the same codes (PS3.16 8)


@dataclass(frozen=True)
class CodedValue:
    """An item of a code sequence: code value, coding scheme designator, code meaning (PS3.3 8)."""

    value: str
    scheme: str
    meaning: str = ""


def coded_values(dataset: Dataset, keyword: str) -> Iterator[tuple[CodedValue, Dataset]]:
    """Yield the codes of a sequence, each with its item; items without a code are left out."""
    for item in parsing.items(dataset, keyword):
        value = parsing.text(item, "CodeValue") or parsing.text(item, "LongCodeValue")
        if value:
            scheme = parsing.text(item, "CodingSchemeDesignator").upper()
            scheme = "SRT" if scheme in _SRT_SYNONYMS else scheme
            yield CodedValue(value, scheme, parsing.text(item, "CodeMeaning")), item


def first_code(dataset: Dataset, keyword: str) -> CodedValue | None:
    """Return the first code of a sequence; None where there is none."""
    return next((code for code, _item in coded_values(dataset, keyword)), None)


def standard_meaning(code: CodedValue, groups: tuple[int, ...]) -> str | None:
    """Return the standard's words for a code of context groups (PS3.16), or for the older SRT code of such a concept.

    None for every other code, of whatever scheme.
    """
    return _meanings(groups).get((code.scheme, code.value))


@cache
def _meanings(groups: tuple[int, ...]) -> dict[tuple[str, str], str]:
    # the import takes 15 MB and 40 ms: spent where the first code is met
    from pydicom.sr._snomed_dict import mapping
    from pydicom.sr.codedict import codes

    concepts = [concept for group in groups for concept in getattr(codes, f"cid{group}").concepts.values()]
    meanings = {(concept.scheme_designator, concept.value): concept.meaning for concept in concepts}
    older = {("SRT", srt): meanings[("SCT", sct)] for srt, sct in mapping["SRT"].items() if ("SCT", sct) in meanings}
    return meanings | older
