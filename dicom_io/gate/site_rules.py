"""The rules that a site adds to the admission gate: an attribute, a condition, an action.

Patterns are matched in linear time (RE2): no pattern and no value can block the listener.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from dicom_io.header.attribute_path import TagPath, parse_tag_path

if TYPE_CHECKING:
    from dicom_io.header.instance_header import SiteValue

Action = Literal["refuse", "read", "flag"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,:()/+-]{0,63}")


@dataclass(frozen=True)
class SiteRule:
    """A site's rule; exactly one of `equals`, `matches` and `missing` is given.

    Attributes
    ----------
    action
        ``refuse``: not read. ``read``: the rules in `relaxes` do not object. ``flag``: read, with `name` as a flag.
    equals
        Values; one of the attribute's must be one of them, without regard to case; 1 equals 1.0.
    matches
        RE2 pattern, found anywhere in a value unless anchored, without regard to case.
    missing
        True: the attribute is missing or empty. False: it has a value.
    """

    name: str
    action: Action
    tag: TagPath
    equals: tuple[str, ...] = ()
    matches: str = ""
    missing: bool | None = None
    relaxes: tuple[str, ...] = ()

    def holds(self, values: tuple[str, ...] | None) -> bool:
        """Whether the condition holds for the attribute's values (None: missing or empty)."""
        if self.missing is not None:
            return (values is None) is self.missing
        if self.matches:
            pattern = _compiled(self.matches)
            return any(pattern.search(value) is not None for value in values or ())
        return any(_same(value, wanted) for value in values or () for wanted in self.equals)

    def says(self, values: tuple[str, ...] | None) -> str:
        """The condition in words; a value only where the site wrote it and it cannot identify a patient."""
        if self.missing is not None:
            return f"{self.tag.text} {'is missing' if self.missing else 'has a value'}"
        if self.matches:
            return f"{self.tag.text} matches the site's pattern"
        if self.tag.kind not in ("coded", "free"):
            return f"{self.tag.text} is what the site's rule names"
        found = next((wanted for wanted in self.equals for value in values or () if _same(value, wanted)), "")
        return f"{self.tag.text} is {masked(found)}"


def site_rule(
    *,
    name: str,
    action: Action,
    tag: str,
    equals: str | float | Sequence[str | float] | None = None,
    matches: str | None = None,
    missing: bool | None = None,
    relaxes: Sequence[str] = (),
) -> SiteRule:
    """Make a rule from a site's configuration.

    Raises
    ------
    ValueError
        With the problem, the value and what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name {name!r}: 1 to 64 of letters, digits, blanks and _.,:()/+- are allowed, a letter or digit first"
        )
    given = [
        key for key, value in (("equals", equals), ("matches", matches), ("missing", missing)) if value is not None
    ]
    if len(given) != 1:
        raise ValueError(
            f"rule {name!r} has {' and '.join(given) or 'no condition'}: give exactly one of equals, matches, missing"
        )
    if action == "read" and not relaxes:
        raise ValueError(f'rule {name!r}: action "read" names in relaxes which rules it relaxes, such as ["size"]')
    if action != "read" and relaxes:
        raise ValueError(f'rule {name!r}: relaxes is only for action "read"; this one is "{action}"')
    path = parse_tag_path(tag)
    if path.kind == "sequence" and missing is None:
        raise ValueError(f"rule {name!r}: {tag} is a sequence, which can only be missing or not")
    wanted = () if equals is None else (equals,) if isinstance(equals, str | int | float) else tuple(equals)
    if equals is not None and not (wanted and all(str(value).strip() for value in wanted)):
        raise ValueError(f"rule {name!r}: equals is empty; write missing = true for an attribute without a value")
    if matches is not None:
        _check_pattern(name, matches)
    texts = tuple(str(value).strip() for value in wanted)
    return SiteRule(name, action, path, texts, matches or "", missing, tuple(relaxes))


def applying(rules: Sequence[SiteRule], site_values: Sequence[SiteValue]) -> list[SiteRule]:
    """Return the rules whose condition holds.

    Raises
    ------
    ValueError
        If the header was read without one of the rules' attributes.
    """
    values = {value.tag: value.values for value in site_values}
    absent = [rule.tag.text for rule in rules if rule.tag.text not in values]
    if absent:
        raise ValueError(f"the header was read without the attributes of the site's rules: {', '.join(absent)}")
    return [rule for rule in rules if rule.holds(values[rule.tag.text])]


def recorded_values(rules: Sequence[SiteRule], site_values: Sequence[SiteValue]) -> dict[str, str]:
    """Return what is recorded of the attributes of a site's rules: coded values, of others whether there is one."""
    values = {value.tag: value.values for value in site_values}
    recorded = {}
    for tag in dict.fromkeys(rule.tag for rule in rules):
        found = values.get(tag.text)
        if found is None:
            recorded[f"site {tag.text}"] = "missing"
        elif tag.kind == "coded":
            recorded[f"site {tag.text}"] = "\\".join(masked(value) for value in found[:8])
        else:
            recorded[f"site {tag.text}"] = "has a value"
    return recorded


def masked(value: str, length: int = 24) -> str:
    """Replace what no coded value can contain by ``?``, so that a reason never quotes free text."""
    return re.sub(r"[^A-Za-z0-9_. -]", "?", value)[:length]


def _check_pattern(name: str, pattern: str) -> None:
    import re2

    if not pattern.strip():
        raise ValueError(f"rule {name!r}: matches is empty; write missing = false for an attribute with any value")
    try:
        compiled = _compiled(pattern)
    except re2.error as error:
        raw = error.args[0] if error.args else ""
        words = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        raise ValueError(
            f"rule {name!r}: pattern {pattern!r} is not understood ({words}); allowed is RE2's syntax, which has no "
            "lookaround and no backreference, so that no value can make it run for long"
        ) from error
    if compiled.search("") is not None:
        raise ValueError(f"rule {name!r}: pattern {pattern!r} matches every value; write missing = false for any value")


@cache
def _compiled(pattern: str) -> Any:  # noqa: ANN401 - RE2's own, which is imported only where a site has a pattern
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    return re2.compile(pattern, options)


def _same(value: str, wanted: str) -> bool:
    if value.strip().casefold() == wanted.casefold():
        return True
    try:
        return math.isfinite(float(value)) and float(value) == float(wanted)
    except ValueError:
        return False
