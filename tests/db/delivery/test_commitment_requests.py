"""Requests for storage commitment: what was reported at last keeps no reason of an earlier try."""

from __future__ import annotations

from datetime import timedelta

from db.delivery import commitment_requests
from db.engine.session import Database
from db.reasons import ReasonCode
from db.tables.delivery import Commitment
from tests.db.conftest import NOON

LEASE = timedelta(minutes=2)


def test_reported_request_keeps_no_reason_of_an_earlier_try(database: Database) -> None:
    with database.write() as session:
        number = commitment_requests.record(
            session, transaction_uid="1", calling_ae="A", address="", instances=[("1", "2")], now=NOON, due=NOON
        )
        claimed = commitment_requests.claim(session, number, owner="1", now=NOON, lease=LEASE)
        assert claimed is not None
        away = {"reason": "A cannot be reached", "code": ReasonCode.PEER_UNREACHABLE}
        assert commitment_requests.mark_retry(session, claimed, next_attempt_at=NOON, **away)
    with database.write() as session:
        claimed = commitment_requests.claim(session, number, owner="1", now=NOON, lease=LEASE)
        assert claimed is not None
        assert commitment_requests.mark_reported(session, claimed, NOON, 1, 0)
    with database.read() as session:
        row = session.get_one(Commitment, number)
        assert (row.state, row.reason, row.reason_code, row.attempts) == ("reported", "", ReasonCode.NONE, 2)
