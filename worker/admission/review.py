"""Deciding again about what was refused: a person has one image read anyway, or the site's new rules are applied.

Every decision is kept with who, why and when; the newest counts everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from db.engine.session import Session
from db.intake import gate_decisions
from db.intake.gate_decisions import DecidedInstance
from db.intake.instances import is_own_object
from db.records import Decision
from dicom_io.gate.decision import NEVER_READ, GateRules, decide, never_read, read_anyway
from dicom_io.header.instance_header import InstanceHeader, UnreadableDicom, read_header
from worker.admission.rules import decision_record, gate_rules, rules_version
from worker.installation import Site
from worker.storage.store import StoredFileLost, StoreUnavailable

_AT_ONCE = 100
_LONGEST_NAME, _LONGEST_REASON = 100, 500


class CannotBeReadAnyway(Exception):
    """The image cannot be had read by a person's word; the message says why."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class ReadAnyway:
    """What a person had read: the rule that had refused it, and the analysis queued (None: it waits for a model)."""

    sop_instance_uid: str
    refused_by: str
    analysis_id: int | None


@dataclass(frozen=True)
class DecidedAgain:
    """One image about which the rules of today were asked; ``problem``: its file could not be read."""

    sop_instance_uid: str
    rule_before: str
    decision: Decision | None
    problem: str = ""
    analysis_id: int | None = None


def have_read(site: Site, sop_instance_uid: str, *, by: str, reason: str) -> ReadAnyway:
    """Have a refused image read although a rule refuses it.

    Parameters
    ----------
    by, reason
        Who asks for it, and why: kept with the decision, and shown on the study's page.

    Raises
    ------
    CannotBeReadAnyway
        If it is unknown, not refused, one of our own objects, or has nothing to be read; or without a name or reason.
    db.intake.gate_decisions.DecidedElsewhere
        If somebody decided about it in the same moment.
    """
    by, reason = (" ".join("".join(c if c.isprintable() else " " for c in text).split()) for text in (by, reason))
    for name, text, longest in (("name", by, _LONGEST_NAME), ("reason", reason, _LONGEST_REASON)):
        if not 1 <= len(text) <= longest:
            raise CannotBeReadAnyway(f"a {name} is needed, of 1 to {longest} characters; this one has {len(text)}")
    with site.database.read() as session:
        before = gate_decisions.decided(session, sop_instance_uid)
    if before is None:
        raise CannotBeReadAnyway(f"no image with SOP Instance UID {sop_instance_uid!r} was received here")
    if before.decision.accepted:
        raise CannotBeReadAnyway(f"{sop_instance_uid} is not refused: {before.decision.reason}")
    rules = gate_rules(site.settings)
    facts = _facts(site, before, rules)
    with site.database.write() as session:
        never = never_read(facts, is_own_object(session, sop_instance_uid))
        if never is not None:
            raise CannotBeReadAnyway(f"{sop_instance_uid} cannot be read by anybody's word: {never}")
        refused = before.decision
        made = read_anyway(facts, rules, refused.rule)
        decision = Decision(
            # one a person for each version of the rules: these refused it, and others may yet let it in
            rules_version=f"{refused.rules_version[:57]}+person",
            accepted=True,
            rule=made.rule,
            reason=f"{made.reason} ({refused.reason}): {reason}",
            facts=dict(made.header_values),
            flags=made.flags,
            decided_by=by,
        )
        analysis_id = gate_decisions.decide_again(
            session, before, decision, site.clock(), (facts.age_years, facts.view)
        )
    return ReadAnyway(sop_instance_uid, refused.rule, analysis_id)


def can_be_had_read(decision: Decision) -> bool:
    """Whether the pages offer it: judged by the stored facts alone, the command looks at the image itself."""
    return (
        not decision.accepted
        and decision.rule not in NEVER_READ
        and decision.facts.get("has_pixels") != "no"
        and decision.facts.get("frames", 1) == 1
    )


def apply_rules(site: Site, *, dry_run: bool = False) -> Iterator[DecidedAgain]:
    """Ask the rules of today about every live image that other rules refused; what they let in is read.

    What was accepted stays accepted, and what a person had read stays read.
    """
    rules = gate_rules(site.settings)
    version = rules_version(rules)
    after = 0
    while True:
        with site.database.read() as session:
            part = gate_decisions.refused_by_other_rules(session, version, after, _AT_ONCE)
        if not part:
            return
        for before in part:
            after = before.instance_id
            yield _apply(site, before, rules, version, dry_run=dry_run)


def _apply(site: Site, before: DecidedInstance, rules: GateRules, version: str, *, dry_run: bool) -> DecidedAgain:
    uid, rule = before.sop_instance_uid, before.decision.rule
    try:
        facts = _facts(site, before, rules)
    except CannotBeReadAnyway as error:
        return DecidedAgain(uid, rule, None, str(error))
    if dry_run:
        with site.database.read() as session:
            return DecidedAgain(uid, rule, _decide(session, facts, rules, version))
    try:
        with site.database.write() as session:
            decision = _decide(session, facts, rules, version)
            analysis_id = gate_decisions.decide_again(
                session, before, decision, site.clock(), (facts.age_years, facts.view)
            )
    except gate_decisions.DecidedElsewhere as error:
        return DecidedAgain(uid, rule, None, str(error))
    return DecidedAgain(uid, rule, decision, analysis_id=analysis_id)


def _decide(session: Session, facts: InstanceHeader, rules: GateRules, version: str) -> Decision:
    return decision_record(decide(facts, rules, is_own=is_own_object(session, facts.sop_instance_uid)), version)


def _facts(site: Site, instance: DecidedInstance, rules: GateRules) -> InstanceHeader:
    try:
        return read_header(site.store.path(instance.uri), rules.tags)
    except (StoredFileLost, StoreUnavailable, UnreadableDicom, OSError) as error:
        raise CannotBeReadAnyway(f"{instance.sop_instance_uid}: its file cannot be read: {error}") from error
