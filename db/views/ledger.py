"""What arrived, what has a result, what was sent, what has none and why. Counts are derived from rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy import ColumnElement, Select, case, func, select

from db.delivery import commitment_requests
from db.engine.session import Session
from db.intake.gate_decisions import current
from db.intake.rejected_transfers import rejected
from db.reasons import ReasonCode
from db.records import Ledger, Unfinished
from db.tables.analyses import Analysis
from db.tables.delivery import Delivery
from db.tables.gate import GateDecision
from db.tables.studies import Instance

_DELIVERY_STATES = ("pending", "sending", "sent", "committed", "failed", "superseded")
_Rows: TypeAlias = "Select[Instance, str, str, str, str]"
_UNFINISHED = ("pending", "running", "failed")
_NO_MODEL = "no model was active when it came"


def ledger(session: Session, now: datetime, older_than: timedelta = timedelta(0), limit: int = 1000) -> Ledger:
    """Account for every live instance; ``unfinished``: those older than ``older_than`` that failed or have no end.

    ``limit`` is the most that are listed as unfinished, oldest first; with 0 only the counts are made.
    """
    newest = (
        select(Analysis.instance_id, func.max(Analysis.id).label("id"))
        .group_by(Analysis.instance_id)
        .subquery("newest")
    )
    state = state_column()
    base = (
        select(Instance, state.label("state"), GateDecision.reason, Analysis.reason, Analysis.reason_code)
        .join(GateDecision, current())
        .outerjoin(newest, newest.c.instance_id == Instance.id)
        .outerjoin(Analysis, Analysis.id == newest.c.id)
        .where(Instance.origin == "live")
    )
    rows = base.subquery()
    counts = {name: int(n) for name, n in session.execute(select(rows.c.state, func.count()).group_by(rows.c.state))}
    deliveries = dict.fromkeys(_DELIVERY_STATES, 0)
    for name, number in session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)):
        deliveries[name] = int(number)
    deliveries["pending"] += deliveries.pop("sending")  # under way is not yet arrived
    unfinished = _unfinished(session, base, state, now - older_than, limit) if limit else ()
    reasons, rules = _refusals(session)
    return Ledger(
        received=sum(counts.values()),
        done=counts.get("done", 0),
        not_applicable=counts.get("not_applicable", 0),
        failed=counts.get("failed", 0),
        pending=counts.get("pending", 0) + counts.get("running", 0),
        rejected=rejected(session),
        deliveries=deliveries,
        unfinished=unfinished,
        unfinished_total=_unfinished_total(session, base, state, now - older_than) if limit else 0,
        reasons=reasons,
        rules=rules,
        commitments=commitment_requests.ledger_counts(session),
    )


def _unfinished(
    session: Session, rows: _Rows, state: ColumnElement[str], until: datetime, limit: int
) -> tuple[Unfinished, ...]:
    found = session.execute(
        rows.where(state.in_(_UNFINISHED), Instance.received_at <= until).order_by(Instance.id).limit(limit)
    )
    return tuple(
        Unfinished(
            instance.sop_instance_uid or "",
            name,
            _NO_MODEL if reason is None else reason,
            instance.received_at,
            ReasonCode.NO_MODEL_ACTIVE if code is None else code,
        )
        for instance, name, _gate, reason, code in found
    )


def _unfinished_total(session: Session, rows: _Rows, state: ColumnElement[str], until: datetime) -> int:
    found = rows.where(state.in_(_UNFINISHED), Instance.received_at <= until).subquery()
    return int(session.scalar(select(func.count()).select_from(found)) or 0)


def refused_by_rule(session: Session) -> dict[str, int]:
    """Return how many live images each rule of the gate has refused, the most first."""
    return _refusals(session)[1]


def _refusals(session: Session) -> tuple[dict[str, int], dict[str, int]]:
    """By reason and by rule."""
    reasons: dict[str, int] = {}
    rules: dict[str, int] = {}
    for rule, reason, number in session.execute(
        select(GateDecision.rule, GateDecision.reason, func.count())
        .join(Instance, current())
        .where(GateDecision.accepted.is_(False), Instance.origin == "live")
        .group_by(GateDecision.rule, GateDecision.reason)
    ):
        reasons[reason] = reasons.get(reason, 0) + int(number)
        rules[rule] = rules.get(rule, 0) + int(number)
    return reasons, dict(sorted(rules.items(), key=lambda each: (-each[1], each[0])))


def state_column() -> ColumnElement[str]:
    """The ledger's state of an instance, over its gate decision and (outer-joined) newest analysis."""
    return case(
        (GateDecision.accepted.is_(False), "not_applicable"),
        (Analysis.state.is_(None), "pending"),  # no model was active when it came
        else_=Analysis.state,
    )
