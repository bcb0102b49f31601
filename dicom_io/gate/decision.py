"""The admission gate: accepts or refuses an instance, with the rule and a reason.

The built-in rules are applied in the order of their table, then the site's; the first that objects and that no rule of
the site relaxes decides.
"""

from dataclasses import dataclass

from dicom_io.gate.region import region_of
from dicom_io.gate.rules import (
    ACCEPTED,
    READ_ANYWAY,
    RULES,
    RULES_VERSION,
    GateRules,
    sop_class_name,
)
from dicom_io.gate.site_rules import SiteRule, applying, masked, recorded_values
from dicom_io.header.instance_header import InstanceHeader
from dicom_io.header.radiograph_words import SPECIAL_VIEWS

__all__ = [
    "ACCEPTED",
    "AGE_CONTRADICTORY",
    "NEVER_READ",
    "READ_ANYWAY",
    "RULES",
    "RULES_VERSION",
    "GateResult",
    "GateRules",
    "decide",
    "never_read",
    "read_anyway",
    "region_of",
]

AGE_CONTRADICTORY = "age contradictory: PatientAge and PatientBirthDate are more than two years apart"
"""The flag of an image whose age is believed from neither; rules that depend on the age must raise no priority."""

NEVER_READ = {"own object", "pixel data", "single frame"}


@dataclass(frozen=True)
class GateResult:
    """The gate's result for one instance.

    Attributes
    ----------
    accepted
        Whether it is read.
    rule
        The built-in or site rule that decided; ``accepted`` where none objected.
    reason
        One sentence for people, without patient data.
    header_values
        What the rules evaluated, with coded values masked to the characters of coded values.
    flags
        What people should know of an accepted instance.
    """

    accepted: bool
    rule: str
    reason: str
    header_values: dict[str, str | int | float | None]
    flags: tuple[str, ...] = ()


def decide(header: InstanceHeader, rules: GateRules | None = None, is_own: bool = False) -> GateResult:
    """Apply the gate to an instance.

    Parameters
    ----------
    header
        Its header values, read with `rules.tags`.
    rules
        The rules in force; the defaults when not given.
    is_own
        Whether its SOP Instance UID is that of one of our own objects.

    Returns
    -------
    GateResult
        Accepted with flags (``region unknown``, ``view unknown``, ``view contradictory: ...``, ``age unknown``,
        `AGE_CONTRADICTORY`, ``small image ...``, those of the header itself and of the site's rules), or refused by
        the first rule that objects.

    Raises
    ------
    ValueError
        If the header was read without the attributes of the site's rules.
    """
    rules = rules or GateRules()
    evaluated = {**_evaluated(header), **recorded_values(rules.site, header.site)}
    if is_own:
        return GateResult(False, "own object", "SOPInstanceUID is one of our own objects: never analysed", evaluated)
    site = applying(rules.site, header.site)
    relaxed: dict[SiteRule, list[str]] = {}
    for rule in RULES:
        reason = rule.objection(header, rules)
        if reason is None:
            continue
        by = next((each for each in site if each.action == "read" and rule.name in each.relaxes), None)
        if by is None:
            return GateResult(False, rule.name, reason, evaluated)
        relaxed.setdefault(by, []).append(reason)
    values = {value.tag: value.values for value in header.site}
    for each in site:
        if each.action == "refuse":
            reason = f"{each.says(values[each.tag.text])}: refused by this site's rule"
            return GateResult(False, each.name, reason, evaluated)
    flags = (*_flags(header, rules), *(each.name for each in site if each.action == "flag"))
    if not relaxed:
        return GateResult(True, ACCEPTED, _acceptance(header), evaluated, flags)
    words = "; ".join(
        f"{each.says(values[each.tag.text])}: read by this site's rule '{each.name}' although {' and '.join(reasons)}"
        for each, reasons in relaxed.items()
    )
    allowed = tuple(f"admitted by this site's rule: {each.name}" for each in relaxed)
    return GateResult(True, next(iter(relaxed)).name, words, evaluated, (*allowed, *flags))


def _acceptance(header: InstanceHeader) -> str:
    region = region_of(header)
    says = region.says if region.is_chest else "no attribute names a region"
    return f"{says}, view {header.view or 'unknown'}: read as a frontal chest radiograph"


def _flags(header: InstanceHeader, rules: GateRules) -> tuple[str, ...]:
    short_side = min(header.rows, header.columns)
    region = region_of(header)
    views = ", ".join(f"{source} is {term}" for source, term in header.view_statements)
    candidates = (
        *((True, flag) for flag in region.flags),
        (region.is_chest is None, "region unknown"),
        (header.view_contradictory, f"view contradictory: {views}"),
        (header.view is None, "view unknown"),
        (header.view in SPECIAL_VIEWS, f"view {header.view}: neither PA nor AP"),
        (header.age_contradictory, AGE_CONTRADICTORY),
        (header.age_years is None and not header.age_contradictory, "age unknown"),
        (short_side < rules.minimum_short_side, f"small image: {short_side} pixels, under {rules.minimum_short_side}"),
    )
    return (*(flag for raised, flag in candidates if raised), *header.flags)


def _evaluated(header: InstanceHeader) -> dict[str, str | int | float | None]:
    region = region_of(header)
    return {
        "sop_class": sop_class_name(header.sop_class_uid),
        "modality": masked(header.modality),
        "presentation_intent": masked(header.presentation_intent),
        "image_type": "\\".join(masked(member) for member in header.image_type),
        "has_pixels": "yes" if header.has_pixels else "no",
        "rows": header.rows,
        "columns": header.columns,
        "frames": header.frames,
        "samples_per_pixel": header.samples_per_pixel,
        "photometric": masked(header.photometric),
        "region_source": region.source,
        "region": region.value,
        "region_is_chest": {True: "yes", False: "no", None: "unknown"}[region.is_chest],
        "view": header.view,
        "view_source": header.view_source,
        "view_statements": ", ".join(f"{source} {term}" for source, term in header.view_statements),
        "age_years": None if header.age_years is None else round(header.age_years, 2),
        "age_source": header.age_source,
        "age_contradictory": "yes" if header.age_contradictory else "no",
        "quality_control_image": masked(header.quality_control_image),
        "content_qualification": masked(header.content_qualification),
    }


def never_read(header: InstanceHeader, is_own: bool = False) -> str | None:
    """Return why an instance cannot be read even on request; None where it can."""
    rules = GateRules()
    if is_own:
        return "it is one of our own objects, which are never analysed"
    objections = (rule.objection(header, rules) for rule in RULES if rule.name in NEVER_READ)
    return next((reason for reason in objections if reason is not None), None)


def read_anyway(header: InstanceHeader, rules: GateRules, refused_by: str) -> GateResult:
    """Return the result for an instance that a person has read although the rule `refused_by` refused it.

    Its flags: that it was refused, then those it would have if it had been accepted.
    """
    evaluated = {**_evaluated(header), **recorded_values(rules.site, header.site)}
    site = applying(rules.site, header.site)
    flags = (
        f"read although refused: {refused_by}",
        *_flags(header, rules),
        *(each.name for each in site if each.action == "flag"),
    )
    return GateResult(True, READ_ANYWAY, f"read although refused by the rule '{refused_by}'", evaluated, flags)
