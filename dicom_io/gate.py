"""The admission gate: which images are read, and for what stated reason the others are not.

The rules are one table, tried from the top; the first that objects decides. Every reason is a plain sentence with the
attribute and its value, and holds no patient data: free text is never quoted, only the word of ours that was found.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydicom.uid import UID

from dicom_io.facts import InstanceFacts
from dicom_io.identity import MANUFACTURER, MANUFACTURER_MODEL_NAME
from dicom_io.uids import is_uid

RULES_VERSION = 1

CR = "1.2.840.10008.5.1.4.1.1.1"
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Chest, thorax and lung (CID 4031): SNOMED CT, and the SRT code of the entire thorax.
_CHEST_CODES = {
    ("SCT", "816094009"),
    ("SCT", "51185008"),
    ("SCT", "43799004"),
    ("SCT", "39607008"),
    ("SRT", "T-D3000"),
}
CHEST_BODY_PARTS = {"CHEST", "THORAX", "LUNG", "LUNGS"}
# Words looked for in descriptions when nothing coded says the region: ours, from no standard, and kept few. A chest
# word wins: "CHEST AND ABDOMEN" is read.
_CHEST_WORDS = {"CHEST", "THORAX", "LUNG", "LUNGS", "CXR", "TORAX"}
_OTHER_WORDS = {
    *{"ABDOMEN", "PELVIS", "HIP", "KNEE", "ANKLE", "FOOT", "TOE", "LEG", "TIBIA", "FEMUR", "HAND", "WRIST", "FINGER"},
    *{"ELBOW", "FOREARM", "HUMERUS", "SHOULDER", "CLAVICLE", "SKULL", "SINUS", "SINUSES", "SPINE", "BREAST", "TEETH"},
}
DESCRIPTION = "a description of study, series or protocol"
_ANIMAL_WORDS = {"CANINE", "FELINE", "EQUINE", "BOVINE", "VETERINARY"}
_HUMAN_WORDS = {"HUMAN", "HOMO SAPIENS", "HOMO SAPIENS (ORGANISM)"}
_HUMAN_CODES = {("SCT", "337915000"), ("SRT", "L-85003")}  # Homo sapiens, as in pydicom.sr's SNOMED table
_OURS = (MANUFACTURER, MANUFACTURER_MODEL_NAME)
_GRAYSCALE = {"MONOCHROME1", "MONOCHROME2"}


@dataclass(frozen=True)
class GateRules:
    """What a site may decide about the gate.

    Attributes
    ----------
    version
        Version of these rules; a decision is stored with it.
    minimum_short_side
        Fewest pixels on the image's shorter side.
    small_images
        Whether a smaller image is refused (received over DICOM) or only flagged (`analyse`).
    unknown_region
        Whether an image that does not say its body part is read, flagged, or refused.
    accept_secondary_capture
        Whether grayscale Secondary Captures are read too.
    """

    version: int = RULES_VERSION
    minimum_short_side: int = 512
    small_images: Literal["refuse", "flag"] = "refuse"
    unknown_region: Literal["read", "refuse"] = "read"
    accept_secondary_capture: bool = False


@dataclass(frozen=True)
class GateDecision:
    """Whether one instance is read; `rule` decided, `reason` says it in a sentence, `facts` is what the rules saw."""

    accepted: bool
    rule: str
    reason: str
    facts: dict[str, str | int | float | None]
    flags: tuple[str, ...] = ()


def decide(facts: InstanceFacts, rules: GateRules | None = None, is_own: bool = False) -> GateDecision:
    """Decide whether an instance is read.

    Parameters
    ----------
    facts
        Its header.
    rules
        The site's rules; the defaults when not given.
    is_own
        Whether the caller knows its SOP Instance UID as one of our own objects.

    Returns
    -------
    GateDecision
        Accepted with flags (``region unknown``, ``view unknown``, ``age unknown``, ``small image ...``), or refused by
        the first rule that objects.
    """
    rules = rules or GateRules()
    seen = _seen(facts)
    if is_own:
        return GateDecision(False, "own object", "SOPInstanceUID is one of our own objects: never analysed", seen)
    for rule, objection in _RULES:
        reason = objection(facts, rules)
        if reason is not None:
            return GateDecision(False, rule, reason, seen)
    return GateDecision(True, "accepted", _acceptance(facts), seen, _flags(facts, rules))


Objection = Callable[[InstanceFacts, GateRules], str | None]


def _own_object(facts: InstanceFacts, _rules: GateRules) -> str | None:
    if (facts.manufacturer, facts.model_name) == _OURS:
        return f"Manufacturer is {MANUFACTURER}: one of our own objects, never analysed"
    if any((part.manufacturer, part.model) == _OURS for part in facts.contributing_equipment):
        return f"ContributingEquipmentSequence names {MANUFACTURER}: derived from our own objects, never analysed"
    return None


def _sop_class(facts: InstanceFacts, rules: GateRules) -> str | None:
    if facts.sop_class_uid in {CR, DX_FOR_PRESENTATION}:
        return None
    if facts.sop_class_uid == SECONDARY_CAPTURE and rules.accept_secondary_capture:
        return None
    if facts.sop_class_uid == DX_FOR_PROCESSING:
        return f"SOPClassUID is {_sop_class_name(DX_FOR_PROCESSING)}: only images for presentation are read"
    if not facts.sop_class_uid:
        return "SOPClassUID is missing: not known to be a radiograph"
    name = _sop_class_name(facts.sop_class_uid)
    return f"SOPClassUID is {name}: not a radiograph (CR or DX)"


def _presentation_intent(facts: InstanceFacts, _rules: GateRules) -> str | None:
    if facts.presentation_intent == "FOR PROCESSING":
        return "PresentationIntentType is FOR PROCESSING: only images for presentation are read"
    return None


def _pixels(facts: InstanceFacts, _rules: GateRules) -> str | None:
    if not facts.has_pixels:
        return "PixelData is missing or empty: no pixel data"
    if facts.rows <= 0 or facts.columns <= 0:
        return f"Rows is {facts.rows} and Columns is {facts.columns}: no pixel data"
    return None


def _single_frame(facts: InstanceFacts, _rules: GateRules) -> str | None:
    return None if facts.frames == 1 else f"NumberOfFrames is {facts.frames}: only single images are read"


def _grayscale(facts: InstanceFacts, _rules: GateRules) -> str | None:
    if facts.samples_per_pixel not in {0, 1}:
        return f"SamplesPerPixel is {facts.samples_per_pixel}: not a grayscale image"
    if facts.photometric and facts.photometric not in _GRAYSCALE:
        return f"PhotometricInterpretation is {_plain(facts.photometric)}: not a grayscale image"
    return None


def _size(facts: InstanceFacts, rules: GateRules) -> str | None:
    if rules.small_images == "refuse" and min(facts.rows, facts.columns) < rules.minimum_short_side:
        return (
            f"Rows x Columns is {facts.rows} x {facts.columns}: "
            f"the short side is under {rules.minimum_short_side} pixels"
        )
    return None


def _region(facts: InstanceFacts, rules: GateRules) -> str | None:
    source, value, is_chest = region_of(facts)
    if is_chest is False:
        return f"{source} {'says' if source == DESCRIPTION else 'is'} {value}: not a chest"
    if is_chest is None and rules.unknown_region == "refuse":
        return "BodyPartExamined and AnatomicRegionSequence are empty and no description names a region: region unknown"
    return None


def _view(facts: InstanceFacts, _rules: GateRules) -> str | None:
    if facts.view == "LATERAL":
        return f"{facts.view_source} is LATERAL: only frontal views are read"
    return None


def _image_type(facts: InstanceFacts, rules: GateRules) -> str | None:
    secondary_allowed = facts.sop_class_uid == SECONDARY_CAPTURE and rules.accept_secondary_capture
    for value in facts.image_type:
        # one value with a blank in it is how some old modalities wrote several
        for word in value.split():
            if word == "LOCALIZER" or (word == "SECONDARY" and not secondary_allowed):
                return f"ImageType contains {word}: not an original image"
    return None


def _quality_control(facts: InstanceFacts, _rules: GateRules) -> str | None:
    for keyword, value in (
        ("QualityControlImage", facts.quality_control_image),
        ("QualityControlSubject", facts.quality_control_subject),
    ):
        if value in {"YES", "BOTH"}:
            return f"{keyword} is {value}: not an image of a patient"
    if facts.anatomic_region and (facts.anatomic_region.scheme, facts.anatomic_region.value) == ("SCT", "706342009"):
        return "AnatomicRegionSequence is Phantom: not an image of a patient"
    if facts.body_part == "PHANTOM" or "PHANTOM" in _words(facts.region_text):
        return f"BodyPartExamined or {DESCRIPTION} says PHANTOM: not an image of a patient"
    return None


def _content_qualification(facts: InstanceFacts, _rules: GateRules) -> str | None:
    if facts.content_qualification not in {"", "PRODUCT"}:
        return f"ContentQualification is {_plain(facts.content_qualification)}: only PRODUCT images are read"
    return None


def _species(facts: InstanceFacts, _rules: GateRules) -> str | None:
    code = facts.species_code
    if code is not None and (code.scheme, code.value) not in _HUMAN_CODES:
        return f"PatientSpeciesCodeSequence is {_plain(code.value)} {_plain(code.scheme)}: not a human"
    if code is None and facts.species and facts.species.upper() not in _HUMAN_WORDS:
        return "PatientSpeciesDescription is other than human: not a human"
    animal = sorted(_words(facts.region_text) & _ANIMAL_WORDS)
    return f"{DESCRIPTION} says {animal[0]}: not a human" if animal else None


_RULES: tuple[tuple[str, Objection], ...] = (
    ("own object", _own_object),
    ("sop class", _sop_class),
    ("presentation intent", _presentation_intent),
    ("pixel data", _pixels),
    ("single frame", _single_frame),
    ("grayscale", _grayscale),
    ("size", _size),
    ("quality control", _quality_control),
    ("region", _region),
    ("view", _view),
    ("image type", _image_type),
    ("content qualification", _content_qualification),
    ("species", _species),
)


def region_of(facts: InstanceFacts) -> tuple[str, str, bool | None]:
    """Find the region in its first non-empty source.

    Returns
    -------
    tuple of str, str, bool or None
        Where it was found (``""`` when nowhere), what it says, and whether that is the chest (None: unknown).
    """
    code = facts.anatomic_region
    if code is not None:
        return (
            "AnatomicRegionSequence",
            f"{_plain(code.value)} {_plain(code.scheme)}",
            (code.scheme, code.value) in _CHEST_CODES,
        )
    if facts.body_part:
        return "BodyPartExamined", _plain(facts.body_part), facts.body_part in CHEST_BODY_PARTS
    words = _words(facts.region_text)
    if chest := sorted(words & _CHEST_WORDS):
        return DESCRIPTION, chest[0], True
    if other := sorted(words & _OTHER_WORDS):
        return DESCRIPTION, other[0], False
    return "", "", None


def _acceptance(facts: InstanceFacts) -> str:
    source, value, is_chest = region_of(facts)
    region = (
        f"{source} {'says' if source == DESCRIPTION else 'is'} {value}" if is_chest else "no attribute names a region"
    )
    return f"{region}, view {_plain(facts.view) if facts.view else 'unknown'}: read as a frontal chest radiograph"


def _flags(facts: InstanceFacts, rules: GateRules) -> tuple[str, ...]:
    short_side = min(facts.rows, facts.columns)
    candidates = (
        (region_of(facts)[2] is None, "region unknown"),
        (facts.view is None, "view unknown"),
        (facts.age_years is None, "age unknown"),
        (short_side < rules.minimum_short_side, f"small image: {short_side} pixels, under {rules.minimum_short_side}"),
    )
    return tuple(flag for raised, flag in candidates if raised)


def _seen(facts: InstanceFacts) -> dict[str, str | int | float | None]:
    source, value, is_chest = region_of(facts)
    return {
        "sop_class": _sop_class_name(facts.sop_class_uid),
        "modality": _plain(facts.modality),
        "presentation_intent": _plain(facts.presentation_intent),
        "image_type": "\\".join(_plain(member) for member in facts.image_type),
        "has_pixels": "yes" if facts.has_pixels else "no",
        "rows": facts.rows,
        "columns": facts.columns,
        "frames": facts.frames,
        "samples_per_pixel": facts.samples_per_pixel,
        "photometric": _plain(facts.photometric),
        "region_source": source,
        "region": value,
        "region_is_chest": {True: "yes", False: "no", None: "unknown"}[is_chest],
        "view": _plain(facts.view) if facts.view else None,
        "view_source": facts.view_source,
        "age_years": None if facts.age_years is None else round(facts.age_years, 2),
        "age_source": facts.age_source,
        "quality_control_image": _plain(facts.quality_control_image),
        "content_qualification": _plain(facts.content_qualification),
    }


def _sop_class_name(uid: str) -> str:
    return _plain(UID(uid).name, 80) if is_uid(uid) else _plain(uid)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]+", text.upper()))


def _plain(value: str, length: int = 24) -> str:
    """Make a coded value fit to be quoted: what no coded value can hold is masked, so that stray text stays out."""
    return re.sub(r"[^A-Za-z0-9_. -]", "?", value)[:length]
