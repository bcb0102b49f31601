"""Labels and their coded concepts."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme designator (PS3.16 section 8), meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """A finding that a network predicts. ``codes`` is empty where no coded concept is known."""

    name: str
    codes: tuple[Code, ...] = ()


# SNOMED CT, as ChestX-ray14's labels map to it; meanings are the concepts' own terms
# (browser.ihtsdotools.org). 409609008's term says what the label means: an opacity seen on a radiograph, not a disease.
KNOWN_CODES: dict[str, tuple[Code, ...]] = {
    "Atelectasis": (Code("46621007", "SCT", "Atelectasis"),),
    "Edema": (Code("19242006", "SCT", "Pulmonary edema"),),
    "Effusion": (Code("60046008", "SCT", "Pleural effusion"),),
    "Infiltration": (Code("409609008", "SCT", "Radiologic infiltrate of lung"),),
    "Pneumothorax": (Code("36118008", "SCT", "Pneumothorax"),),
    "Pneumonia": (Code("233604007", "SCT", "Pneumonia"),),
}

NO_FINDING_NAMES = frozenset(
    {"normal", "normals", "no finding", "no findings", "nofinding", "healthy", "negative", "background"}
)
"""Names of classes and columns, as `label_key` writes them, that mean the absence of findings; they are not labels."""

LONGEST_NAME = 64
"""Characters of the name of a label or a model."""


def name_problem(text: str, *, of_file: bool = False) -> str:
    """Return why a text cannot be the name of a label or, with ``of_file``, of a model; empty where it can.

    Names are printed on terminals, and a model's name is part of the name of its folder.
    """
    if not text.strip() or len(text) > LONGEST_NAME:
        return f"{text[:LONGEST_NAME]!r} has {len(text)} characters; allowed are 1 to {LONGEST_NAME}"
    if not text.isprintable():
        return f"{text!r} has characters that cannot be printed"
    if of_file and (text.startswith(".") or set(text) & set("/\\")):
        return f"{text!r} begins with a dot or has a slash: it is part of a folder's name"
    return ""


def says_no_finding(name: str) -> bool:
    """Return whether a class or column name means the absence of findings, however it is spelled or numbered."""
    return label_key(re.sub(r"^\d+[\s_.-]+", "", name.strip()).replace("-", " ")) in NO_FINDING_NAMES


def label_key(name: str) -> str:
    """Return what the spellings of one label share: lower case, words divided by single blanks; ``_`` is a blank."""
    return " ".join(re.split(r"[\s_]+", name.casefold())).strip()


def known_spelling(name: str) -> str:
    """Return the label of `KNOWN_CODES` that a name spells otherwise, else the name with single blanks."""
    return _KNOWN.get(label_key(name), " ".join(name.split()))


_KNOWN = {label_key(name): name for name in KNOWN_CODES}


def label_of(name: str) -> Label:
    """Return the label of this name, with its codes from `KNOWN_CODES`."""
    return Label(name, KNOWN_CODES.get(name, ()))
