"""The gate's decisions about an instance: all are kept, the newest counts, and a person's overrules the rules'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from sqlalchemy import ColumnElement, and_, select

from db.analysis.planning import new_analysis
from db.analysis.states import refresh
from db.engine.session import Session
from db.model_registry.activation import active_models
from db.records import Decision
from db.tables.analyses import Analysis
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Location


@dataclass(frozen=True)
class DecidedInstance:
    """A received image and the decision that counts."""

    instance_id: int
    sop_instance_uid: str
    uri: str
    decision: Decision


class DecidedElsewhere(Exception):
    """Somebody else decided about the same image meanwhile; the message says what counts now."""

    exit_code: ClassVar[int] = 1


def current() -> ColumnElement[bool]:
    """What joins an instance to the one decision about it that counts."""
    return and_(GateDecision.instance_id == Instance.id, GateDecision.current.is_(True))


def record(row: GateDecision) -> Decision:
    """Return a row as a plain value."""
    return Decision(
        row.rules_version,
        row.accepted,
        row.rule,
        row.reason,
        dict(row.facts),
        tuple(row.flags),
        row.decided_by,
        row.decided_at,
    )


def decided(session: Session, sop_instance_uid: str) -> DecidedInstance | None:
    """Return a received image with the decision that counts; None if it is not known here."""
    rows = session.execute(
        select(Instance, GateDecision)
        .join(GateDecision, current())
        .where(Instance.sop_instance_uid == sop_instance_uid)
    ).all()
    found = _with_uris(session, [(instance, decision) for instance, decision in rows])
    return found[0] if found else None


def refused_by_other_rules(session: Session, rules_version: str, after: int, limit: int) -> list[DecidedInstance]:
    """Return refused live images whose decision is of other rules than these, by their id from ``after`` on."""
    rows = session.execute(
        select(Instance, GateDecision)
        .join(GateDecision, current())
        .where(
            Instance.origin == "live",
            Instance.id > after,
            GateDecision.accepted.is_(False),
            GateDecision.rules_version != rules_version,
        )
        .order_by(Instance.id)
        .limit(limit)
    ).all()
    return _with_uris(session, [(instance, decision) for instance, decision in rows])


def add_decision(
    session: Session, instance: Instance, decision: Decision, now: datetime, *, waits: bool = False
) -> GateDecision:
    """Add the row of a decision about a recorded image, which counts from now on; ``waits``: for a model."""
    row = GateDecision(
        instance_id=instance.id,
        origin=instance.origin,
        rules_version=decision.rules_version,
        accepted=decision.accepted,
        rule=decision.rule,
        reason=decision.reason,
        facts=decision.facts,
        flags=list(decision.flags),
        decided_by=decision.decided_by,
        decided_at=now,
        waits=waits,
    )
    session.add(row)
    return row


def decide_again(
    session: Session,
    before: DecidedInstance,
    decision: Decision,
    now: datetime,
    age_and_view: tuple[float | None, str | None] | None = None,
) -> int | None:
    """Let ``decision`` count from now on; the former is kept. What it lets in is queued.

    Parameters
    ----------
    age_and_view
        Age in years and view as the header was understood for this decision, which an earlier program may have read
        otherwise; by them the model is chosen. None: as stored.

    Returns
    -------
    int or None
        The analysis that was queued; None where it is refused again, or no model is active and it waits for one.

    Raises
    ------
    DecidedElsewhere
        If another decision than ``before`` counts by now.
    """
    if age_and_view is not None:
        instance = session.get_one(Instance, before.instance_id)
        instance.age_years, instance.view = age_and_view
    queued = _decide_again(session, before, decision, now)
    refresh(session, [before.instance_id])
    return queued


def _decide_again(session: Session, before: DecidedInstance, decision: Decision, now: datetime) -> int | None:
    instance = session.get_one(Instance, before.instance_id)
    former = session.scalars(
        select(GateDecision)
        .where(GateDecision.instance_id == instance.id, GateDecision.current.is_(True))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if (former.rules_version, former.accepted) != (before.decision.rules_version, before.decision.accepted):
        raise DecidedElsewhere(f"{instance.sop_instance_uid}: another decision was made meanwhile: {former.reason}")
    former.current = former.waits = False
    session.flush()
    row = add_decision(session, instance, decision, now)
    if not decision.accepted:
        return None
    models = active_models(session)
    if not models:
        row.waits = instance.origin == "live"
        return None
    sha256 = session.scalars(
        select(Location.sha256).where(Location.instance_id == instance.id).order_by(Location.id).limit(1)
    ).one()
    analysis = new_analysis(instance, models, sha256, now)
    known = session.scalar(
        select(Analysis.id).where(
            Analysis.instance_id == instance.id,
            Analysis.model_digest == analysis.model_digest,
            Analysis.preprocessing_id == analysis.preprocessing_id,
        )
    )
    if known is not None:  # it was read before it was refused: that result counts again
        return None
    analysis.enqueued_at = None  # recovery queues it within seconds
    session.add(analysis)
    session.flush()
    return analysis.id if analysis.state == "pending" else None


def history(session: Session, instance_ids: Sequence[int]) -> dict[int, list[Decision]]:
    """Per instance id, every decision about it, the one that counts last."""
    found: dict[int, list[Decision]] = {}
    for row in session.scalars(
        select(GateDecision)
        .where(GateDecision.instance_id.in_(instance_ids))
        .order_by(GateDecision.current, GateDecision.decided_at, GateDecision.id)
    ):
        found.setdefault(row.instance_id, []).append(record(row))
    return found


def _with_uris(session: Session, rows: Sequence[tuple[Instance, GateDecision]]) -> list[DecidedInstance]:
    uris: dict[int, str] = {}
    for location in session.scalars(
        select(Location).where(Location.instance_id.in_([instance.id for instance, _ in rows])).order_by(Location.id)
    ):
        uris.setdefault(location.instance_id, location.uri)
    return [
        DecidedInstance(instance.id, instance.sop_instance_uid or "", uris[instance.id], record(decision))
        for instance, decision in rows
    ]
