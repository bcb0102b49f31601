"""The rules of the admission gate as one table: each objects with a reason, or lets pass.

Every reason is a plain sentence with the attribute and its value, and holds no patient data: free text is never quoted,
only the word of ours that was found.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydicom.uid import UID

from dicom_io.gate.site_rules import SiteRule
from dicom_io.gate.site_rules import shown as plain
from dicom_io.header.attribute_path import TagPath
from dicom_io.header.facts import InstanceFacts
from dicom_io.terms import (
    CHEST_BODY_PARTS,
    CR,
    DX_FOR_PRESENTATION,
    DX_FOR_PROCESSING,
    MANUFACTURER,
    MANUFACTURER_MODEL_NAME,
    SECONDARY_CAPTURE,
)
from dicom_io.uids import is_uid

RULES_VERSION = 2


# Chest, thorax and lung (CID 4031): SNOMED CT, and the SRT code of the entire thorax.
_CHEST_CODES = {
    ("SCT", "816094009"),
    ("SCT", "51185008"),
    ("SCT", "43799004"),
    ("SCT", "39607008"),
    ("SRT", "T-D3000"),
}
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
    site
        What the site adds and relaxes.
    """

    version: int = RULES_VERSION
    minimum_short_side: int = 512
    small_images: Literal["refuse", "flag"] = "refuse"
    unknown_region: Literal["read", "refuse"] = "read"
    accept_secondary_capture: bool = False
    site: tuple[SiteRule, ...] = ()

    @property
    def tags(self) -> tuple[TagPath, ...]:
        """What the site's rules look at: a header must be read with them."""
        return tuple(dict.fromkeys(rule.tag for rule in self.site))


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
        return f"SOPClassUID is {sop_class_name(DX_FOR_PROCESSING)}: only images for presentation are read"
    if not facts.sop_class_uid:
        return "SOPClassUID is missing: not known to be a radiograph"
    name = sop_class_name(facts.sop_class_uid)
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
        return f"PhotometricInterpretation is {plain(facts.photometric)}: not a grayscale image"
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
        return f"ContentQualification is {plain(facts.content_qualification)}: only PRODUCT images are read"
    return None


def _species(facts: InstanceFacts, _rules: GateRules) -> str | None:
    code = facts.species_code
    if code is not None and (code.scheme, code.value) not in _HUMAN_CODES:
        return f"PatientSpeciesCodeSequence is {plain(code.value)} {plain(code.scheme)}: not a human"
    if code is None and facts.species and facts.species.upper() not in _HUMAN_WORDS:
        return "PatientSpeciesDescription is other than human: not a human"
    animal = sorted(_words(facts.region_text) & _ANIMAL_WORDS)
    return f"{DESCRIPTION} says {animal[0]}: not a human" if animal else None


@dataclass(frozen=True)
class BuiltInRule:
    """One rule; `relaxable` says whether a site's rule may overrule it, `asks` what it asks of an image."""

    name: str
    objection: Objection
    relaxable: bool
    asks: str


RULES: tuple[BuiltInRule, ...] = (
    BuiltInRule("own object", _own_object, False, "is none of our own objects, nor made of one"),
    BuiltInRule("sop class", _sop_class, False, "is CR or DX for presentation (or SC: accept_secondary_capture)"),
    BuiltInRule("presentation intent", _presentation_intent, True, "is not marked FOR PROCESSING"),
    BuiltInRule("pixel data", _pixels, False, "has pixels"),
    BuiltInRule("single frame", _single_frame, False, "has one frame"),
    BuiltInRule("grayscale", _grayscale, False, "is grayscale"),
    BuiltInRule("size", _size, True, "has a short side of minimum_short_side pixels or more"),
    BuiltInRule("quality control", _quality_control, True, "is no quality control image and no phantom"),
    BuiltInRule("region", _region, True, "shows the chest, or does not say what it shows (unknown_region)"),
    BuiltInRule("view", _view, True, "is not a lateral view"),
    BuiltInRule("image type", _image_type, True, "is neither SECONDARY nor LOCALIZER"),
    BuiltInRule("content qualification", _content_qualification, True, "is a product image, not one of research"),
    BuiltInRule("species", _species, True, "is of a human"),
)
RELAXABLE = tuple(rule.name for rule in RULES if rule.relaxable)
ACCEPTED, READ_ANYWAY = "accepted", "read anyway"
_TAKEN = {rule.name for rule in RULES} | {ACCEPTED, READ_ANYWAY}


def check_site_rules(rules: Sequence[SiteRule]) -> None:
    """Hold a site's rules against the table.

    Raises
    ------
    ValueError
        For a name used twice or taken, and for relaxing a rule that does not exist or is never relaxed.
    """
    names: set[str] = set()
    for rule in rules:
        if rule.name.lower() in _TAKEN | names:
            raise ValueError(f"rule {rule.name!r}: this name is taken; each rule needs one of its own")
        names.add(rule.name.lower())
        for relaxed in rule.relaxes:
            if relaxed not in RELAXABLE:
                never = relaxed in _TAKEN - {ACCEPTED, READ_ANYWAY}
                raise ValueError(
                    f"rule {rule.name!r} relaxes {relaxed!r}, which {'is never relaxed' if never else 'is no rule'}; "
                    f"allowed: {', '.join(RELAXABLE)}"
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
            f"{plain(code.value)} {plain(code.scheme)}",
            (code.scheme, code.value) in _CHEST_CODES,
        )
    if facts.body_part:
        return "BodyPartExamined", plain(facts.body_part), facts.body_part in CHEST_BODY_PARTS
    words = _words(facts.region_text)
    if chest := sorted(words & _CHEST_WORDS):
        return DESCRIPTION, chest[0], True
    if other := sorted(words & _OTHER_WORDS):
        return DESCRIPTION, other[0], False
    return "", "", None


def sop_class_name(uid: str) -> str:
    """Return the name of a SOP class, or the UID where it has none, fit to be quoted."""
    return plain(UID(uid).name, 80) if is_uid(uid) else plain(uid)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]+", text.upper()))
