"""The built-in rules of the admission gate as one table; each objects with a reason, or not.

A reason names the attribute and its value and contains no patient data: free text is never quoted, only the word from
our list that was found in it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicom_io.gate.region import DESCRIPTION, REGION_CODES, region_of
from dicom_io.gate.site_rules import SiteRule, masked
from dicom_io.header.attribute_path import TagPath
from dicom_io.header.coded_values import standard_meaning
from dicom_io.header.instance_header import InstanceHeader
from dicom_io.header.radiograph_words import says_phantom
from dicom_io.terms import MANUFACTURER, MANUFACTURER_MODEL_NAME
from dicom_io.uids import is_uid

RULES_VERSION = 3


_ANIMAL_WORDS = {"CANINE", "FELINE", "EQUINE", "BOVINE", "VETERINARY"}
_HUMAN_WORDS = {"HUMAN", "HOMO SAPIENS", "HOMO SAPIENS (ORGANISM)"}
_HUMAN_CODES = {("SCT", "337915000"), ("SRT", "L-85003")}  # Homo sapiens, as in pydicom.sr's SNOMED table
_OURS = (MANUFACTURER, MANUFACTURER_MODEL_NAME)
_GRAYSCALE = {"MONOCHROME1", "MONOCHROME2"}


@dataclass(frozen=True)
class GateRules:
    """The rules in force at a site.

    Attributes
    ----------
    version
        Version of the built-in rules; stored with each result.
    minimum_short_side
        Minimum of the image's shorter side, in pixels.
    small_images
        Whether a smaller image is refused (received over DICOM) or only flagged (`analyse`).
    unknown_region
        Whether an image without a known body part is read (flagged) or refused.
    accept_secondary_capture
        Whether grayscale Secondary Captures are read too.
    site
        The site's own rules.
    """

    version: int = RULES_VERSION
    minimum_short_side: int = 512
    small_images: Literal["refuse", "flag"] = "refuse"
    unknown_region: Literal["read", "refuse"] = "read"
    accept_secondary_capture: bool = False
    site: tuple[SiteRule, ...] = ()

    @property
    def tags(self) -> tuple[TagPath, ...]:
        """The attributes of the site's rules, which a header must be read with."""
        return tuple(dict.fromkeys(rule.tag for rule in self.site))


Objection = Callable[[InstanceHeader, GateRules], str | None]


def _own_object(header: InstanceHeader, _rules: GateRules) -> str | None:
    if (header.manufacturer, header.model_name) == _OURS:
        return f"Manufacturer is {MANUFACTURER}: one of our own objects, never analysed"
    if any((part.manufacturer, part.model) == _OURS for part in header.contributing_equipment):
        return f"ContributingEquipmentSequence names {MANUFACTURER}: derived from our own objects, never analysed"
    return None


def _sop_class(header: InstanceHeader, rules: GateRules) -> str | None:
    if header.sop_class_uid in {ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation}:
        return None
    if header.sop_class_uid == SecondaryCaptureImageStorage and rules.accept_secondary_capture:
        return None
    if header.sop_class_uid == DigitalXRayImageStorageForProcessing:
        return f"SOPClassUID is {sop_class_name(header.sop_class_uid)}: only images for presentation are read"
    if not header.sop_class_uid:
        return "SOPClassUID is missing: not known to be a radiograph"
    name = sop_class_name(header.sop_class_uid)
    return f"SOPClassUID is {name}: not a radiograph (CR or DX)"


def _presentation_intent(header: InstanceHeader, _rules: GateRules) -> str | None:
    if header.presentation_intent == "FOR PROCESSING":
        return "PresentationIntentType is FOR PROCESSING: only images for presentation are read"
    return None


def _pixels(header: InstanceHeader, _rules: GateRules) -> str | None:
    if not header.has_pixels:
        return "PixelData is missing or empty: no pixel data"
    if header.rows <= 0 or header.columns <= 0:
        return f"Rows is {header.rows} and Columns is {header.columns}: no pixel data"
    return None


def _single_frame(header: InstanceHeader, _rules: GateRules) -> str | None:
    return None if header.frames == 1 else f"NumberOfFrames is {header.frames}: only single images are read"


def _grayscale(header: InstanceHeader, _rules: GateRules) -> str | None:
    if header.samples_per_pixel not in {0, 1}:
        return f"SamplesPerPixel is {header.samples_per_pixel}: not a grayscale image"
    if header.photometric and header.photometric not in _GRAYSCALE:
        return f"PhotometricInterpretation is {masked(header.photometric)}: not a grayscale image"
    return None


def _size(header: InstanceHeader, rules: GateRules) -> str | None:
    if rules.small_images == "refuse" and min(header.rows, header.columns) < rules.minimum_short_side:
        return (
            f"Rows x Columns is {header.rows} x {header.columns}: "
            f"the short side is under {rules.minimum_short_side} pixels"
        )
    return None


def _region(header: InstanceHeader, rules: GateRules) -> str | None:
    region = region_of(header)
    if region.is_chest is False:
        return f"{region.says}: not a chest"
    if region.is_chest is None and rules.unknown_region == "refuse":
        return "no attribute and no description names a region that is known: region unknown"
    return None


def _view(header: InstanceHeader, _rules: GateRules) -> str | None:
    if header.view != "LATERAL":
        return None
    frontal = [f"{source} is {term}" for source, term in header.view_statements if term != "LATERAL"]
    although = f", although {' and '.join(frontal)}" if frontal else ""
    return f"{header.view_source} is LATERAL{although}: only frontal views are read"


def _image_type(header: InstanceHeader, rules: GateRules) -> str | None:
    secondary_allowed = header.sop_class_uid == SecondaryCaptureImageStorage and rules.accept_secondary_capture
    for value in header.image_type:
        # some old modalities write several values as one with blanks
        for word in value.split():
            if word == "LOCALIZER" or (word == "SECONDARY" and not secondary_allowed):
                return f"ImageType contains {word}: not an original image"
    return None


def _quality_control(header: InstanceHeader, _rules: GateRules) -> str | None:
    for keyword, value in (
        ("QualityControlImage", header.quality_control_image),
        ("QualityControlSubject", header.quality_control_subject),
    ):
        if value in {"YES", "BOTH"}:
            return f"{keyword} is {value}: not an image of a patient"
    if header.anatomic_region and standard_meaning(header.anatomic_region, REGION_CODES) == "Phantom":
        return "AnatomicRegionSequence is Phantom: not an image of a patient"
    if says_phantom(header.body_part) or says_phantom(header.region_text):
        return f"BodyPartExamined or {DESCRIPTION} says PHANTOM: not an image of a patient"
    return None


def _content_qualification(header: InstanceHeader, _rules: GateRules) -> str | None:
    if header.content_qualification not in {"", "PRODUCT"}:
        return f"ContentQualification is {masked(header.content_qualification)}: only PRODUCT images are read"
    return None


def _species(header: InstanceHeader, _rules: GateRules) -> str | None:
    code = header.species_code
    if code is not None and (code.scheme, code.value) not in _HUMAN_CODES:
        return f"PatientSpeciesCodeSequence is {masked(code.value)} {masked(code.scheme)}: not a human"
    if code is None and header.species and header.species.upper() not in _HUMAN_WORDS:
        return "PatientSpeciesDescription is other than human: not a human"
    animal = sorted(_words(header.region_text) & _ANIMAL_WORDS)
    return f"{DESCRIPTION} says {animal[0]}: not a human" if animal else None


@dataclass(frozen=True)
class BuiltInRule:
    """One rule; `relaxable`: whether a site's rule may overrule it; `asks`: what it requires of an image."""

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
    """Check a site's rules against the table.

    Raises
    ------
    ValueError
        If a name is not unique, or a rule relaxes one that does not exist or is never relaxed.
    """
    names: set[str] = set()
    for rule in rules:
        if rule.name.lower() in _TAKEN | names:
            raise ValueError(f"rule {rule.name!r}: this name is in use; each rule needs a name of its own")
        names.add(rule.name.lower())
        for relaxed in rule.relaxes:
            if relaxed not in RELAXABLE:
                never = relaxed in _TAKEN - {ACCEPTED, READ_ANYWAY}
                raise ValueError(
                    f"rule {rule.name!r} relaxes {relaxed!r}, which {'is never relaxed' if never else 'is no rule'}; "
                    f"allowed: {', '.join(RELAXABLE)}"
                )


def sop_class_name(uid: str) -> str:
    """Return the name of a SOP class, or its UID where it has none, masked for a reason."""
    return masked(UID(uid).name, 80) if is_uid(uid) else masked(uid)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]+", text.upper()))
