"""Refused transfers neither vanish from sight nor fill the table."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from db.engine.session import Database
from db.intake.rejected_transfers import prune_rejections, record_rejection, rejected
from db.tables.audit import Rejection
from db.views.ledger_details import ledger_details
from tests.db.conftest import NOON

_ONE: dict[str, Any] = {"calling_ae": "CT7", "address": "10.0.0.1", "status": 0xA700, "reason": "the disk is full"}


def test_same_refusal_within_an_hour_is_one_row_with_its_number_also_from_threads_at_once(database: Database) -> None:
    def refuse() -> None:
        for second in range(5):
            with database.write() as session:
                record_rejection(session, when=NOON + timedelta(seconds=second), **_ONE)

    threads = [threading.Thread(target=refuse) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as session:
        row = session.scalars(select(Rejection)).one()
        assert (row.number, row.rejected_at, rejected(session)) == (20, NOON, 20)
        assert ledger_details(session).rejections[0].number == 20


def test_another_sender_status_reason_or_hour_is_another_row(database: Database) -> None:
    others = [{}, {"calling_ae": "CT8"}, {"address": "10.0.0.2"}, {"status": 0xC000}, {"reason": "not DICOM"}]
    with database.write() as session:
        for other in others:
            record_rejection(session, when=NOON, **{**_ONE, **other})
        record_rejection(session, when=NOON + timedelta(hours=1), **_ONE)
    with database.read() as session:
        assert [row.number for row in session.scalars(select(Rejection))] == [1] * 6


def test_old_refusals_and_those_beyond_the_most_are_removed_oldest_first(database: Database) -> None:
    with database.write() as session:
        for day in range(10):
            record_rejection(session, when=NOON + timedelta(days=day), **_ONE)
    with database.write() as session:
        assert prune_rejections(session, before=NOON + timedelta(days=2), most=5) == 5
        assert prune_rejections(session, before=NOON + timedelta(days=2), most=5) == 0
    with database.read() as session:
        days = [(row.rejected_at - NOON).days for row in session.scalars(select(Rejection).order_by(Rejection.id))]
    assert days == [5, 6, 7, 8, 9]
