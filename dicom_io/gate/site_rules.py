"""The rules that a site adds to the admission gate: one attribute, one condition, and what follows from it.

A site's pattern is matched in linear time (RE2): no pattern and no header can hold up the listener.
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
    from dicom_io.header.facts import SiteValue

Action = Literal["refuse", "read", "flag"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,:()/+-]{0,63}")


@dataclass(frozen=True)
class SiteRule:
    """One rule of a site's; exactly one of `equals`, `matches` and `missing` is given.

    Attributes
    ----------
    action
        ``refuse``: not read. ``read``: the rules of `relaxes` do not object. ``flag``: read, with `name` as a flag.
    equals
        Values, one of which one of the attribute's must be; upper and lower case are alike, and so are 1 and 1.0.
    matches
        RE2 pattern, found anywhere in a value unless anchored; upper and lower case are alike.
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
        """The condition in words: with a value only where the site wrote it and nobody is named by it."""
        if self.missing is not None:
            return f"{self.tag.text} {'is missing' if self.missing else 'has a value'}"
        if self.matches:
            return f"{self.tag.text} matches the site's pattern"
        if self.tag.kind not in ("coded", "free"):
            return f"{self.tag.text} is what the site's rule names"
        found = next((wanted for wanted in self.equals for value in values or () if _same(value, wanted)), "")
        return f"{self.tag.text} is {shown(found)}"


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
    """Make a rule of what a site wrote.

    Raises
    ------
    ValueError
        With what is wrong, its value and what is allowed.
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


def verdicts(rules: Sequence[SiteRule], seen: Sequence[SiteValue]) -> list[SiteRule]:
    """Return the rules whose condition holds.

    Raises
    ------
    ValueError
        If the header was read without one of the rules' attributes: a defect of the caller's.
    """
    values = {value.tag: value.values for value in seen}
    absent = [rule.tag.text for rule in rules if rule.tag.text not in values]
    if absent:
        raise ValueError(f"the header was read without the attributes of the site's rules: {', '.join(absent)}")
    return [rule for rule in rules if rule.holds(values[rule.tag.text])]


def seen_of(rules: Sequence[SiteRule], seen: Sequence[SiteValue]) -> dict[str, str]:
    """Return what is stored of the attributes of a site's rules: coded values; of others only whether there is one."""
    values = {value.tag: value.values for value in seen}
    facts = {}
    for tag in dict.fromkeys(rule.tag for rule in rules):
        found = values.get(tag.text)
        if found is None:
            facts[f"site {tag.text}"] = "missing"
        elif tag.kind == "coded":
            facts[f"site {tag.text}"] = "\\".join(shown(value) for value in found[:8])
        else:
            facts[f"site {tag.text}"] = "has a value"
    return facts


def shown(value: str, length: int = 24) -> str:
    """Make a coded value fit to be quoted: what no coded value can hold is masked, so that stray text stays out."""
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
