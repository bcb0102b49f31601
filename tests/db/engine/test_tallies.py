"""Counts are kept by triggers on both databases, and added up without a row lost or counted twice."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import func, select, update

from db.delivery import commitment_requests
from db.engine.session import Database
from db.engine.tallies import add_up, tallies
from db.intake.instances import record_instance
from db.intake.rejected_transfers import prune_rejections, record_rejection, rejected
from db.records import NewInstance
from db.retention import erasure
from db.tables.analyses import Analysis
from db.tables.studies import Study
from db.tables.tallies import Tally
from tests.db.conftest import NOON

Make = Callable[..., NewInstance]
KINDS = ("instance", "accepted", "refused", "delivery", "commitment", "rejection")


def test_counts_follow_what_is_received_refused_and_removed(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        for number in range(1, 6):
            record_instance(session, new_instance(number, study=number, accepted=number < 4))
        record_instance(session, new_instance(9, study=9, origin="archive"))
    with with_model.read() as session:
        found = tallies(session, *KINDS)
    assert found["instance"] == {("pending", ""): 3, ("refused", ""): 2}
    assert (found["accepted"], found["refused"]) == ({("", ""): 3}, {("region", "not a chest"): 2})
    with with_model.write() as session:
        for number in session.scalars(select(Study.id)).all():
            erasure.erase(session, number, requested_by="me", reason="test", now=NOON)
    with with_model.read() as session:
        assert tallies(session, *KINDS) == {kind: {} for kind in KINDS}


def test_rejections_count_each_repetition_until_they_are_pruned(database: Database) -> None:
    for status in (0xC000, 0xC000, 0xA700):
        with database.write() as session:
            record_rejection(session, when=NOON, calling_ae="X", address="::1", status=status, reason="no")
    with database.read() as session:
        assert (rejected(session), tallies(session, "rejection")["rejection"]) == (
            3,
            {(str(0xC000), ""): 2, (str(0xA700), ""): 1},
        )
    with database.write() as session:
        assert prune_rejections(session, before=NOON, most=1) == 1
        assert rejected(session) == 1


def test_commitment_that_is_asked_again_is_counted_once(database: Database) -> None:
    for _ in range(2):
        with database.write() as session:
            commitment_requests.record(
                session, transaction_uid="1", calling_ae="A", address="h", instances=[("1", "2")], now=NOON, due=NOON
            )
    with database.read() as session:
        assert commitment_requests.counts(session) == {"pending": 1, "reporting": 0, "reported": 0, "failed": 0}


def test_what_counts_nothing_adds_no_row(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        record_instance(session, new_instance())
        before = session.scalar(select(func.count()).select_from(Tally))
        session.execute(update(Analysis).values(enqueued_at=NOON))
        session.execute(update(Study).values(score=0.7))
        assert session.scalar(select(func.count()).select_from(Tally)) == before == 2


def test_adding_up_beside_writers_loses_nothing_and_leaves_one_row_a_count(
    with_model: Database, new_instance: Make
) -> None:
    def receive(start: int) -> None:
        for number in range(start, start + 15):
            with with_model.write() as session:
                record_instance(session, new_instance(number, study=number))

    writers = [threading.Thread(target=receive, args=(start,)) for start in (100, 200)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        add_up(with_model, beyond=0)
    assert add_up(with_model) == 0, "a thousand rows more are not worth a transaction"
    add_up(with_model, beyond=0)
    with with_model.read() as session:
        assert tallies(session, "instance", "accepted") == {
            "instance": {("pending", ""): 30},
            "accepted": {("", ""): 30},
        }
        assert session.scalar(select(func.count()).select_from(Tally)) == 2
