"""What arrived, what has a result, what was sent, what has none and why. Triggers keep the counts (`Tally`)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select

from db.analysis.current_result import shown
from db.analysis.states import REFUSED
from db.delivery import commitment_requests
from db.engine.session import Session
from db.engine.tallies import tallies
from db.intake.rejected_transfers import rejected
from db.model_registry.activation import active_models
from db.reasons import ReasonCode
from db.records import Ledger, Unfinished
from db.tables.analyses import Analysis
from db.tables.studies import Instance

_DELIVERY_STATES = ("pending", "sending", "sent", "committed", "failed", "superseded")
_UNFINISHED = ("pending", "running", "failed")
_NO_MODEL = "no model was active when it came"


def ledger(session: Session, now: datetime, older_than: timedelta = timedelta(0), limit: int = 1000) -> Ledger:
    """Account for every live instance; ``unfinished``: those older than ``older_than`` that failed or have no end.

    ``limit`` is the most that are listed as unfinished, oldest first; with 0 only the counts are made.
    """
    kept = tallies(session, "instance", "refused", "delivery")
    counts: Counter[str] = Counter()
    for (state, _outside), number in kept["instance"].items():
        counts[state] += number
    deliveries = dict.fromkeys(_DELIVERY_STATES, 0)
    for (_destination, state), number in kept["delivery"].items():
        deliveries[state] += number
    deliveries["pending"] += deliveries.pop("sending")  # under way is not yet arrived
    until = now - older_than
    return Ledger(
        received=sum(counts.values()),
        done=counts["done"],
        not_applicable=counts["not_applicable"] + counts[REFUSED],
        failed=counts["failed"],
        pending=counts["pending"] + counts["running"],
        rejected=rejected(session),
        deliveries=deliveries,
        unfinished=_unfinished(session, until, limit) if limit else (),
        unfinished_total=_unfinished_total(session, until) if limit else 0,
        reasons=_by(kept["refused"], 1) if limit else {},
        rules=_by(kept["refused"], 0),
        commitments=commitment_requests.ledger_counts(session),
    )


def _unfinished(session: Session, until: datetime, limit: int) -> tuple[Unfinished, ...]:
    """The images that wait longest, by arrival; each state is a range of an index in that order."""
    columns = (Instance.id, Instance.sop_instance_uid, Instance.state, Instance.received_at)
    waiting = [
        row
        for state in _UNFINISHED
        for row in session.execute(
            select(*columns, Instance.age_years, Instance.view)
            .where(*_of(state), Instance.outside_domain.is_(False), Instance.received_at <= until)
            .order_by(Instance.received_at, Instance.id)
            .limit(limit)
        )
    ]
    oldest = sorted(waiting, key=lambda row: (row.received_at, row.id))[:limit]
    ids = [row.id for row in oldest]
    analyses = session.execute(
        select(Analysis.instance_id, Analysis.model_digest, Analysis.reason, Analysis.reason_code)
        .where(Analysis.instance_id.in_(ids))
        .order_by(Analysis.id)
    )
    models = active_models(session)
    readers = ((row.id, models.model_for(row.age_years, row.view)) for row in oldest)
    current = shown(analyses, {number: model.digest for number, model in readers if model is not None})
    return tuple(
        Unfinished(
            row.sop_instance_uid or "",
            row.state,
            current[row.id].reason if row.id in current else _NO_MODEL,
            row.received_at,
            current[row.id].reason_code if row.id in current else str(ReasonCode.NO_MODEL_ACTIVE),
        )
        for row in oldest
    )


def _unfinished_total(session: Session, until: datetime) -> int:
    each = (
        select(func.count()).where(*_of(state), Instance.outside_domain.is_(False), Instance.received_at <= until)
        for state in _UNFINISHED
    )
    return sum(int(session.scalar(count) or 0) for count in each)


def refused_by_rule(session: Session) -> dict[str, int]:
    """Return how many live images each rule of the gate has refused, the most first."""
    return _by(tallies(session, "refused")["refused"], 0)


def _by(counts: dict[tuple[str, str], int], part: int) -> dict[str, int]:
    """Counts by name (0) or detail (1), the most first: of refusals the rule, or the sentence that says why."""
    summed: Counter[str] = Counter()
    for names, number in counts.items():
        summed[names[part]] += number
    return dict(sorted(summed.items(), key=lambda each: (-each[1], each[0])))


def _of(state: str) -> tuple[ColumnElement[bool], ...]:
    return (Instance.origin == "live", Instance.state == state)
