"""The rules of the admission gate as this installation has them, and the version they are recorded under."""

from __future__ import annotations

import hashlib

from db.records import Decision
from dicom_io.gate.decision import GateResult, GateRules
from worker.config.settings import Settings


def gate_rules(settings: Settings) -> GateRules:
    """Return the admission rules as this site has set them."""
    gate = settings.gate
    return GateRules(
        minimum_short_side=gate.minimum_short_side,
        unknown_region=gate.unknown_region,
        accept_secondary_capture=gate.accept_secondary_capture,
        site=tuple(rule.rule() for rule in gate.rules),
    )


def rules_version(rules: GateRules) -> str:
    """Return a name for exactly these rules: the program's version of them, and a digest of what the site has set."""
    return f"{rules.version}-{hashlib.sha256(repr(rules).encode()).hexdigest()[:8]}"


def decision_record(decision: GateResult, version: str) -> Decision:
    """Return what the gate decided by the rules of this version, as it is stored."""
    return Decision(
        version, decision.accepted, decision.rule, decision.reason, dict(decision.header_values), decision.flags
    )
