"""The section `[gate]`: the admission rules that a site may change, add and relax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from worker.config.section import Section

if TYPE_CHECKING:
    from dicom_io.gate.site_rules import SiteRule


class GateRule(Section):
    """A rule of the site: one attribute of the header, exactly one of the three conditions, and an action."""

    name: str = Field(description="unique; it appears in reasons, flags and metrics, so it must not hold patient data")
    action: Literal["refuse", "read", "flag"] = Field(
        description='"refuse": not analysed; "read": the rules of `relaxes` do not apply; "flag": analysed and flagged'
    )
    tag: str = Field(
        description="a keyword such as `StationName`, `(gggg,eeee)`, `(gggg,ee,CREATOR)` for a private one; "
        "`Sequence.Attribute` or `Sequence[0].Attribute` for one inside a sequence"
    )
    equals: str | int | float | tuple[str | int | float, ...] | None = Field(
        default=None, description="a value, or a list of which one must match; case is ignored"
    )
    matches: str | None = Field(
        default=None, description="a regular expression (RE2), found anywhere in the value unless anchored"
    )
    missing: bool | None = Field(default=None, description="`true`: absent or empty; `false`: has a value")
    relaxes: tuple[str, ...] = Field(
        default=(), description='with "read": the built-in rules that do not apply; `cxr-triage gate rules` lists them'
    )

    @model_validator(mode="after")
    def _is_a_rule(self) -> GateRule:
        self.rule()
        return self

    def rule(self) -> SiteRule:
        """Return the rule itself; ValueError with what is wrong."""
        from dicom_io.gate.site_rules import site_rule  # pydicom's dictionary is read only where a site has rules

        return site_rule(**dict(self))


class Gate(Section):
    """The admission rules that a site may change; `[[gate.rules]]` adds and relaxes rules."""

    minimum_short_side: int = Field(default=512, ge=1, le=65535)
    unknown_region: Literal["read", "refuse"] = "read"
    accept_secondary_capture: bool = False
    rules: tuple[GateRule, ...] = ()

    @model_validator(mode="after")
    def _rules_agree(self) -> Gate:
        if self.rules:
            from dicom_io.gate.rules import check_site_rules

            check_site_rules([each.rule() for each in self.rules])
        return self
