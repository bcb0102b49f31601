"""The view of a radiograph, judged from all attributes that name one."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_io.header import parsing
from dicom_io.header.coded_values import coded_values, standard_meaning
from dicom_io.header.radiograph_words import SPECIAL_VIEWS, view_term

_VIEW_CODES = (4010, 4011, 20)  # DX view, its modifier, modifier of the patient's orientation
SERIES_TEXTS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
STUDY_TEXTS = ("StudyDescription", "RequestedProcedureDescription", "PerformedProcedureStepDescription")
_PLANES = {"A": "AP", "P": "AP", "L": "LR", "R": "LR", "H": "HF", "F": "HF"}
_FRONTAL = {"PA", "AP", "FRONTAL"}


@dataclass(frozen=True)
class View:
    """The view, and what each attribute says of it.

    Attributes
    ----------
    term
        ``LATERAL`` where any attribute says so; else a special frontal view such as ``LLO`` or ``DECUBITUS``; else
        ``PA`` or ``AP``; None where no attribute says it, or they contradict each other in it.
    source
        The attribute that it is from; ``""`` for None.
    statements
        Attribute and term of each that names a view.
    contradictory
        Whether one says lateral and another frontal, or one PA and another AP.
    """

    term: str | None
    source: str
    statements: tuple[tuple[str, str], ...]
    contradictory: bool


def view_of(dataset: Dataset) -> View:
    """Judge the view from all attributes of image and series together; where none names one, from those of the study.

    The study's attributes say less: ``CHEST LATERAL`` stands in every image of the study.
    """
    found = [(source, term) for source, term in _statements(dataset) if term is not None]
    stated = [(source, term) for source, term in found if term != "BEDSIDE"]
    terms = {term for _source, term in stated}
    if not stated:
        stated = [(source, term) for source, term in _of_the_study(dataset) if term in {"LATERAL", *SPECIAL_VIEWS}]
    contradictory = ("LATERAL" in terms and bool(terms & _FRONTAL)) or {"PA", "AP"} <= terms
    for wanted in ({"LATERAL"}, set(SPECIAL_VIEWS), set() if contradictory else {"PA", "AP"}):
        for source, term in stated:
            if term in wanted:
                return View(term, source, tuple(stated), contradictory)
    bedside = next((source for source, term in found if term == "BEDSIDE"), None)
    if bedside and not contradictory:
        return View("AP", bedside, tuple(stated), False)
    return View(None, "", tuple(stated), contradictory)


def _statements(dataset: Dataset) -> Iterator[tuple[str, str | None]]:
    yield "ViewPosition", view_term(parsing.text(dataset, "ViewPosition"))
    for words in _code_words(dataset, "ViewCodeSequence", "ViewModifierCodeSequence"):
        yield "ViewCodeSequence", view_term(words)
    yield "PatientOrientation", _plane(parsing.texts(dataset, "PatientOrientation"))
    yield from ((keyword, view_term(parsing.text(dataset, keyword))) for keyword in SERIES_TEXTS)
    for words in _code_words(dataset, "PerformedProtocolCodeSequence"):
        yield "PerformedProtocolCodeSequence", view_term(words)
    yield "BodyPartExamined", view_term(parsing.text(dataset, "BodyPartExamined"))
    for words in _code_words(dataset, "PatientOrientationCodeSequence", "PatientOrientationModifierCodeSequence"):
        yield "PatientOrientationCodeSequence", view_term(words)


def _of_the_study(dataset: Dataset) -> Iterator[tuple[str, str | None]]:
    yield from ((keyword, view_term(parsing.text(dataset, keyword))) for keyword in STUDY_TEXTS)
    for words in _code_words(dataset, "ProcedureCodeSequence"):
        yield "ProcedureCodeSequence", view_term(words)


def _code_words(dataset: Dataset, keyword: str, modifiers: str = "") -> Iterator[str]:
    """Yield the meaning of each code with its modifiers: the standard's where it knows the code, else the item's."""
    for code, item in coded_values(dataset, keyword):
        found = [code]
        if modifiers:
            found += [modifier for modifier, _item in coded_values(item, modifiers)]
        yield " | ".join(standard_meaning(each, _VIEW_CODES) or each.meaning for each in found)


def _plane(orientation: tuple[str, ...]) -> str | None:
    """Return the view by Patient Orientation, the directions of rows and columns (PS3.3 C.7.6.1.1.1).

    Of a combined direction the first letter is the dominant one. ``A\\F`` is sagittal: a lateral view. A row to the
    left and anterior (``LA\\F``) is frontal, but oblique.
    """
    members = [member.upper() for member in orientation]
    if len(members) == 1:  # AF or A/F, where A\F is meant
        members = [letter for letter in members[0] if letter not in " /"]
    if len(members) != 2 or not all(member and set(member) <= set(_PLANES) for member in members):
        return None
    planes = {_PLANES[member[0]] for member in members}
    if planes == {"AP", "HF"}:
        return "LATERAL"
    if planes == {"AP", "LR"}:
        return "AXIAL"
    if planes != {"LR", "HF"}:
        return None
    across = next(member for member in members if _PLANES[member[0]] == "LR")
    return "OBLIQUE" if set(across) & {"A", "P"} else "FRONTAL"
