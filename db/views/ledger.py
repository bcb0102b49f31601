"""What arrived, what has a result, what was sent, what has none and why. Counts are derived from rows."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select

from db.analysis.current_result import model_digests, shown
from db.analysis.states import REFUSED
from db.delivery import commitment_requests
from db.engine.session import Session
from db.intake.rejected_transfers import rejected
from db.model_registry.activation import active_models
from db.reasons import ReasonCode
from db.records import Ledger, Unfinished
from db.tables.analyses import Analysis
from db.tables.delivery import Delivery
from db.tables.gate import GateDecision
from db.tables.studies import Instance

_DELIVERY_STATES = ("pending", "sending", "sent", "committed", "failed", "superseded")
_UNFINISHED = ("pending", "running", "failed")
_NO_MODEL = "no model was active when it came"
_REFUSED_LIVE = (GateDecision.origin == "live", GateDecision.current.is_(True), GateDecision.accepted.is_(False))


def ledger(session: Session, now: datetime, older_than: timedelta = timedelta(0), limit: int = 1000) -> Ledger:
    """Account for every live instance; ``unfinished``: those older than ``older_than`` that failed or have no end.

    ``limit`` is the most that are listed as unfinished, oldest first; with 0 only the counts are made.
    """
    states = select(Instance.state, func.count()).where(Instance.origin == "live").group_by(Instance.state)
    counts = {name: int(number) for name, number in session.execute(states)}
    deliveries = dict.fromkeys(_DELIVERY_STATES, 0)
    for name, number in session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)):
        deliveries[name] = int(number)
    deliveries["pending"] += deliveries.pop("sending")  # under way is not yet arrived
    until = now - older_than
    return Ledger(
        received=sum(counts.values()),
        done=counts.get("done", 0),
        not_applicable=counts.get("not_applicable", 0) + counts.get(REFUSED, 0),
        failed=counts.get("failed", 0),
        pending=counts.get("pending", 0) + counts.get("running", 0),
        rejected=rejected(session),
        deliveries=deliveries,
        unfinished=_unfinished(session, until, limit) if limit else (),
        unfinished_total=_unfinished_total(session, until) if limit else 0,
        reasons=_refusals(session) if limit else {},
        rules=refused_by_rule(session),
        commitments=commitment_requests.ledger_counts(session),
    )


def _unfinished(session: Session, until: datetime, limit: int) -> tuple[Unfinished, ...]:
    """The images that wait longest, by arrival; each state is a range of an index in that order."""
    waiting = [
        instance
        for state in _UNFINISHED
        for instance in session.scalars(
            select(Instance)
            .where(*_of(state), Instance.outside_domain.is_(False), Instance.received_at <= until)
            .order_by(Instance.received_at, Instance.id)
            .limit(limit)
        )
    ]
    oldest = sorted(waiting, key=lambda instance: (instance.received_at, instance.id))[:limit]
    ids = [instance.id for instance in oldest]
    analyses = session.scalars(select(Analysis).where(Analysis.instance_id.in_(ids)).order_by(Analysis.id))
    current = shown(analyses, model_digests(oldest, active_models(session)))
    found = []
    for instance in oldest:
        analysis = current.get(instance.id)
        reason, code = (_NO_MODEL, str(ReasonCode.NO_MODEL_ACTIVE))
        if analysis is not None:
            reason, code = analysis.reason, analysis.reason_code
        uid = instance.sop_instance_uid or ""
        found.append(Unfinished(uid, instance.state, reason, instance.received_at, code))
    return tuple(found)


def _unfinished_total(session: Session, until: datetime) -> int:
    each = (
        select(func.count()).where(*_of(state), Instance.outside_domain.is_(False), Instance.received_at <= until)
        for state in _UNFINISHED
    )
    return sum(int(session.scalar(count) or 0) for count in each)


def refused_by_rule(session: Session) -> dict[str, int]:
    """Return how many live images each rule of the gate has refused, the most first."""
    counts = session.execute(select(GateDecision.rule, func.count()).where(*_REFUSED_LIVE).group_by(GateDecision.rule))
    rules = {rule: int(number) for rule, number in counts}
    return dict(sorted(rules.items(), key=lambda each: (-each[1], each[0])))


def _refusals(session: Session) -> dict[str, int]:
    """How many live images were refused, by the sentence that says why."""
    counts = session.execute(
        select(GateDecision.reason, func.count()).where(*_REFUSED_LIVE).group_by(GateDecision.reason)
    )
    return {reason: int(number) for reason, number in counts}


def _of(state: str) -> tuple[ColumnElement[bool], ...]:
    return (Instance.origin == "live", Instance.state == state)
