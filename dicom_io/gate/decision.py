"""The admission gate: which images are read, and for what stated reason the others are not.

The table's rules are tried from the top, then the site's; the first that objects, and that no rule of the site relaxes,
decides.
"""

from dataclasses import dataclass

from dicom_io.gate.rules import (
    ACCEPTED,
    DESCRIPTION,
    READ_ANYWAY,
    RULES,
    RULES_VERSION,
    GateRules,
    region_of,
    sop_class_name,
)
from dicom_io.gate.site_rules import SiteRule, seen_of, verdicts
from dicom_io.gate.site_rules import shown as plain
from dicom_io.header.facts import InstanceFacts
from dicom_io.terms import CHEST_BODY_PARTS, CR, DX_FOR_PRESENTATION, DX_FOR_PROCESSING, SECONDARY_CAPTURE

__all__ = [
    "ACCEPTED",
    "CHEST_BODY_PARTS",
    "CR",
    "DX_FOR_PRESENTATION",
    "DX_FOR_PROCESSING",
    "NEVER_READ",
    "READ_ANYWAY",
    "RULES",
    "RULES_VERSION",
    "SECONDARY_CAPTURE",
    "GateDecision",
    "GateRules",
    "decide",
    "never_read",
    "read_anyway",
    "region_of",
]

NEVER_READ = {"own object", "pixel data", "single frame"}


@dataclass(frozen=True)
class GateDecision:
    """Whether one instance is read; `rule` decided, `reason` says it in a sentence, `facts` is what the rules saw.

    `rule` is one of the table's or a site's; ``accepted`` where none objected.
    """

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
        Accepted with flags (``region unknown``, ``view unknown``, ``age unknown``, ``small image ...``, what the site's
        rules say), or refused by the first rule that objects.

    Raises
    ------
    ValueError
        If the header was read without the attributes of the site's rules: a defect of the caller's.
    """
    rules = rules or GateRules()
    seen = {**_seen(facts), **seen_of(rules.site, facts.site)}
    if is_own:
        return GateDecision(False, "own object", "SOPInstanceUID is one of our own objects: never analysed", seen)
    site = verdicts(rules.site, facts.site)
    relaxed: dict[SiteRule, list[str]] = {}
    for rule in RULES:
        reason = rule.objection(facts, rules)
        if reason is None:
            continue
        by = next((each for each in site if each.action == "read" and rule.name in each.relaxes), None)
        if by is None:
            return GateDecision(False, rule.name, reason, seen)
        relaxed.setdefault(by, []).append(reason)
    values = {value.tag: value.values for value in facts.site}
    for each in site:
        if each.action == "refuse":
            reason = f"{each.says(values[each.tag.text])}: refused by this site's rule"
            return GateDecision(False, each.name, reason, seen)
    flags = (*_flags(facts, rules), *(each.name for each in site if each.action == "flag"))
    if not relaxed:
        return GateDecision(True, ACCEPTED, _acceptance(facts), seen, flags)
    words = "; ".join(
        f"{each.says(values[each.tag.text])}: read by this site's rule '{each.name}' although {' and '.join(reasons)}"
        for each, reasons in relaxed.items()
    )
    allowed = tuple(f"admitted by this site's rule: {each.name}" for each in relaxed)
    return GateDecision(True, next(iter(relaxed)).name, words, seen, (*allowed, *flags))


def _acceptance(facts: InstanceFacts) -> str:
    source, value, is_chest = region_of(facts)
    region = (
        f"{source} {'says' if source == DESCRIPTION else 'is'} {value}" if is_chest else "no attribute names a region"
    )
    return f"{region}, view {plain(facts.view) if facts.view else 'unknown'}: read as a frontal chest radiograph"


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
        "sop_class": sop_class_name(facts.sop_class_uid),
        "modality": plain(facts.modality),
        "presentation_intent": plain(facts.presentation_intent),
        "image_type": "\\".join(plain(member) for member in facts.image_type),
        "has_pixels": "yes" if facts.has_pixels else "no",
        "rows": facts.rows,
        "columns": facts.columns,
        "frames": facts.frames,
        "samples_per_pixel": facts.samples_per_pixel,
        "photometric": plain(facts.photometric),
        "region_source": source,
        "region": value,
        "region_is_chest": {True: "yes", False: "no", None: "unknown"}[is_chest],
        "view": plain(facts.view) if facts.view else None,
        "view_source": facts.view_source,
        "age_years": None if facts.age_years is None else round(facts.age_years, 2),
        "age_source": facts.age_source,
        "quality_control_image": plain(facts.quality_control_image),
        "content_qualification": plain(facts.content_qualification),
    }


def never_read(facts: InstanceFacts, is_own: bool = False) -> str | None:
    """Return why nobody can have an instance read, whatever was decided about it; None where a person may."""
    rules = GateRules()
    if is_own:
        return "it is one of our own objects, which are never analysed"
    objections = (rule.objection(facts, rules) for rule in RULES if rule.name in NEVER_READ)
    return next((reason for reason in objections if reason is not None), None)


def read_anyway(facts: InstanceFacts, rules: GateRules, refused_by: str) -> GateDecision:
    """Return what stands in a decision's place when a person has an instance read that the rule `refused_by` refused.

    The flags are those that it would have if it had been accepted, after the one that says what happened.
    """
    seen = {**_seen(facts), **seen_of(rules.site, facts.site)}
    site = verdicts(rules.site, facts.site)
    flags = (
        f"read although refused: {refused_by}",
        *_flags(facts, rules),
        *(each.name for each in site if each.action == "flag"),
    )
    return GateDecision(True, READ_ANYWAY, f"read although refused by the rule '{refused_by}'", seen, flags)
