"""Labels and the codes that stand for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme designator (PS3.16 section 8), meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """A finding that a network gives a probability for. ``codes`` may be empty: no code is invented."""

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

NO_FINDING_NAMES = frozenset({"normal", "no finding", "no_finding", "nofinding", "healthy", "negative", "background"})
"""Names, in lower case, of classes and columns that say that nothing was found: they are no labels."""

LONGEST_NAME = 64


def unfit_as_name(text: str, *, of_file: bool = False) -> str:
    """Return why a text cannot name a label or (``of_file``) a model; empty where it can.

    Names are printed on terminals, and a model's is part of its folder's.
    """
    if not text.strip() or len(text) > LONGEST_NAME:
        return f"{text[:LONGEST_NAME]!r} has {len(text)} characters; allowed are 1 to {LONGEST_NAME}"
    if not text.isprintable():
        return f"{text!r} has characters that cannot be printed"
    if of_file and (text.startswith(".") or set(text) & set("/\\")):
        return f"{text!r} begins with a dot or has a slash: it is part of a folder's name"
    return ""


def says_no_finding(name: str) -> bool:
    """Return whether a class or column of this name says that nothing was found; case and outer blanks are ignored."""
    return name.strip().lower() in NO_FINDING_NAMES


def label_of(name: str) -> Label:
    """Return a label with the codes known for its name."""
    return Label(name, KNOWN_CODES.get(name, ()))
