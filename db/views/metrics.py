"""What is measured of the rows: how many stand where, how long the oldest waits, and how long the last ones took.

Counts agree with the ledger's. Durations are of the newest rows alone: their cost does not grow with the archive.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from db.analysis.states import REFUSED
from db.delivery import commitment_requests
from db.engine.session import Session
from db.engine.tallies import tallies
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from db.tables.analyses import Analysis
from db.tables.delivery import Delivery, ObjectSource
from db.tables.studies import Instance
from db.views.ledger import refused_by_rule

ARRIVAL_TO_RESULT = "arrival_to_result"
RESULT_TO_SENT = "result_to_sent"
ARRIVAL_TO_SENT = "arrival_to_sent"
STAGES = (ARRIVAL_TO_RESULT, RESULT_TO_SENT, ARRIVAL_TO_SENT)
INSTANCE_STATES = ("pending", "running", "done", "not_applicable", "failed")
DELIVERY_STATES = ("pending", "sending", "sent", "committed", "failed", "superseded")


@dataclass(frozen=True)
class Measures:
    """One look at the database.

    Attributes
    ----------
    instances
        Live instances by state, all of `INSTANCE_STATES`; their sum is what was received.
    outside_domain
        Done, but outside the model's training domain.
    refused
        Instances that the gate refused, by its rule; part of ``not_applicable``.
    oldest_unread
        When the instance arrived that waits longest for its result; None where none waits.
    rejected
        Transfers answered with a failure, by status code.
    deliveries
        By destination and state.
    oldest_undelivered
        By destination: since when the object waits that waits longest; only where one waits.
    commitments
        Requests for storage commitment by state, all of `db.delivery.commitment_requests.STATES`.
    oldest_commitment
        When the request came that waits longest for its report; None where none waits.
    stages
        By stage, the durations in seconds, of `STAGES`.
    """

    models: ActiveModels
    instances: dict[str, int]
    outside_domain: int
    refused: dict[str, int]
    oldest_unread: datetime | None
    rejected: dict[int, int]
    deliveries: dict[tuple[str, str], int]
    oldest_undelivered: dict[str, datetime]
    commitments: dict[str, int]
    oldest_commitment: datetime | None
    stages: dict[str, tuple[float, ...]]


def measure(session: Session, now: datetime, window: timedelta, newest: int) -> Measures:
    """Measure; ``stages`` holds what ended within ``window``, and no more than the ``newest`` so many rows."""
    kept = tallies(session, "instance", "delivery", "rejection")
    instances = dict.fromkeys(INSTANCE_STATES, 0)
    outside = 0
    for (state, is_outside), number in kept["instance"].items():
        instances["not_applicable" if state == REFUSED else state] += number
        outside += number if is_outside else 0
    waiting: dict[str, datetime] = {}
    for destination, state in kept["delivery"]:
        if state in ("pending", "sending"):
            key = (Delivery.state == state, Delivery.destination == destination)
            oldest = session.scalar(select(func.min(Delivery.created_at)).where(*key))
            if oldest is not None:
                waiting[destination] = min(oldest, waiting.get(destination, oldest))
    return Measures(
        models=active_models(session),
        instances=instances,
        outside_domain=outside,
        refused=refused_by_rule(session),
        oldest_unread=min(_oldest_unread(session), default=None),
        rejected={int(status): number for (status, _), number in kept["rejection"].items()},
        deliveries=kept["delivery"],
        oldest_undelivered=waiting,
        commitments=commitment_requests.counts(session),
        oldest_commitment=commitment_requests.oldest_open(session),
        stages=_stages(session, now - window, newest),
    )


def _oldest_unread(session: Session) -> list[datetime]:
    """When the first image arrived of those that wait, and of those that are being read; the first of an index."""
    of = (Instance.origin == "live", Instance.outside_domain.is_(False))
    firsts = (
        session.scalar(select(func.min(Instance.received_at)).where(*of, Instance.state == state))
        for state in ("pending", "running")
    )
    return [first for first in firsts if first is not None]


def _stages(session: Session, since: datetime, newest: int) -> dict[str, tuple[float, ...]]:
    # a finished row has no lease: with that said, SQLite finds the newest ones in the index, whatever waits above them
    finished = (
        select(Analysis.instance_id, Analysis.finished_at)
        .where(Analysis.state == "done", Analysis.lease_until.is_(None))
        .order_by(Analysis.id.desc())
        .limit(newest)
        .subquery("finished")
    )
    # the origin is looked at here: as a condition, it would have SQLite begin at all live images there are
    readings = session.execute(
        select(Instance.received_at, finished.c.finished_at, Instance.origin)
        .join(finished, Instance.id == finished.c.instance_id)
        .where(finished.c.finished_at >= since)
    )
    arrival_to_result = tuple(_seconds(start, end) for start, end, origin in readings if origin == "live")
    sent = (
        select(Delivery.id, Delivery.object_id, Delivery.created_at, Delivery.sent_at)
        .where(Delivery.sent_at >= since)  # not by id: all that waits for a destination which is away would be passed
        .order_by(Delivery.sent_at.desc())
        .limit(newest)
        .subquery("sent")
    )
    rows = session.execute(
        select(sent.c.id, Instance.received_at, sent.c.created_at, sent.c.sent_at, Instance.origin)
        .join(ObjectSource, ObjectSource.object_id == sent.c.object_id)
        .join(Analysis, Analysis.id == ObjectSource.analysis_id)
        .join(Instance, Instance.id == Analysis.instance_id)
        .order_by(Instance.received_at)
    )
    # of an object made of several images, the last to arrive
    deliveries = {number: (start, made, end) for number, start, made, end, origin in rows if origin == "live"}.values()
    return {
        ARRIVAL_TO_RESULT: arrival_to_result,
        RESULT_TO_SENT: tuple(_seconds(made, end) for _, made, end in deliveries),
        ARRIVAL_TO_SENT: tuple(_seconds(start, end) for start, _, end in deliveries),
    }


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())
