"""Leases of all three tables: one claim at a time, ended by that claim alone, released when its holder is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from db.analysis import lifecycle
from db.delivery import commitment_requests, outbox
from db.engine.leases import Claimed, Leases, database_time, process_of
from db.engine.session import Database, Session
from db.intake.instances import record_instance
from db.reasons import ReasonCode
from db.records import NewInstance
from db.tables.analyses import Analysis
from db.tables.delivery import Commitment, Delivery, MadeObject
from tests.db.conftest import NOON

AHEAD = NOON + timedelta(days=2)
LEASE = timedelta(minutes=2)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Work:
    """The one row of a table with leases, and what is done to it."""

    database: Database
    leases: Leases[Any]
    claim_in: Callable[[Session, str, datetime], Claimed | None]
    end_in: Callable[[Session, Claimed], bool]
    release_in: Callable[[Session, Callable[[str], bool], datetime], int]

    def claim(self, owner: str = "1", now: datetime = NOON) -> Claimed | None:
        with self.database.write() as session:
            return self.claim_in(session, owner, now)

    def end(self, claimed: Claimed) -> bool:
        with self.database.write() as session:
            return self.end_in(session, claimed)

    def give_back(self, claimed: Claimed, *, counted: bool) -> bool:
        with self.database.write() as session:
            return self.leases.give_back(session, claimed, counted=counted)

    def renew(self, claimed: Claimed, until: datetime) -> None:
        with self.database.write() as session:
            self.leases.renew(session, [claimed], until)

    def release(self, *dead: str, now: datetime = NOON) -> int:
        with self.database.write() as session:
            return self.release_in(session, lambda process: process in dead, now)

    @property
    def row(self) -> Any:  # noqa: ANN401 - of any of the tables
        with self.database.read() as session:
            return session.scalars(select(self.leases.table)).one()


def analysis(database: Database, _analysis_id: int) -> Work:
    def claim(session: Session, owner: str, now: datetime) -> Claimed | None:
        return lifecycle.claim(session, _analysis_id, owner=owner, now=now, lease=LEASE, max_attempts=99)

    def end(session: Session, claimed: Claimed) -> bool:
        return lifecycle.end(session, claimed, state="failed", reason="", code=ReasonCode.NONE, now=NOON)

    return Work(database, Leases(Analysis, "running"), claim, end, lifecycle.release_dead)


def delivery(database: Database, analysis_id: int) -> Work:
    made = dict.fromkeys(("kind", "subject_uid", "model_digest", "preprocessing_id", "label", "variant"), "")
    with database.write() as session:
        row = MadeObject(
            **made,
            revision=1,
            study_id=1,
            inputs_digest="",
            sop_instance_uid="1.2.9",
            uri="store:x",
            sha256="0" * 64,
            size=1,
            created_at=NOON,
        )
        session.add(row)
        session.flush()
        session.add(
            Delivery(object_id=row.id, destination="pacs", state="pending", next_attempt_at=NOON, created_at=NOON)
        )

    def claim(session: Session, owner: str, now: datetime) -> Claimed | None:
        return next(iter(outbox.claim_batch(session, "pacs", owner=owner, now=now, lease=LEASE, limit=9)), None)

    def end(session: Session, claimed: Any) -> bool:  # noqa: ANN401 - what `claim` returned
        return outbox.mark_sent(session, claimed, NOON)

    return Work(database, Leases(Delivery, "sending"), claim, end, outbox.release_dead)


def commitment(database: Database, _analysis_id: int) -> Work:
    with database.write() as session:
        asked: dict[str, Any] = {"transaction_uid": "1", "calling_ae": "A", "address": "", "instances": [("1", "2")]}
        commitment_requests.record(session, **asked, now=NOON, due=NOON)

    def claim(session: Session, owner: str, now: datetime) -> Claimed | None:
        due = commitment_requests.claim_due(session, owner=owner, now=now, lease=LEASE, limit=9)
        return next(iter(due), None)

    def end(session: Session, claimed: Any) -> bool:  # noqa: ANN401 - what `claim` returned
        return commitment_requests.mark_reported(session, claimed, NOON, 1, 0)

    return Work(database, Leases(Commitment, "reporting"), claim, end, commitment_requests.release_dead)


@pytest.fixture(params=[analysis, delivery, commitment], ids=lambda make: make.__name__)
def work(request: pytest.FixtureRequest, with_model: Database, new_instance: Callable[..., NewInstance]) -> Work:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance())
    return request.param(with_model, recorded.analysis_id)  # type: ignore[no-any-return]


def test_one_of_many_that_claim_at_once_gets_it(work: Work) -> None:
    start, claims = threading.Barrier(4), []

    def take(owner: str) -> None:
        start.wait()
        claims.append(work.claim(owner))

    threads = [threading.Thread(target=take, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (kept,) = [claimed for claimed in claims if claimed is not None]
    assert len(claims) == 4
    assert work.row.attempts == 1
    assert work.row.lease_owner == kept.claim


def test_lost_lease_ends_nothing_and_is_not_renewed(work: Work) -> None:
    first = work.claim("1")
    second = work.claim("2", NOON + LEASE + SECOND)
    assert first is not None
    assert second is not None
    held = (work.row.state, work.row.attempts, work.row.lease_until)
    work.renew(first, NOON + 9 * LEASE)
    assert not work.end(first)
    assert not work.give_back(first, counted=False)
    assert (work.row.state, work.row.attempts, work.row.lease_until) == held
    assert work.end(second)
    assert not work.end(second)


def test_process_that_claims_again_what_it_lost_cannot_end_its_first_claim(work: Work) -> None:
    first = work.claim("1")
    second = work.claim("1", NOON + LEASE + SECOND)
    assert first is not None
    assert second is not None
    assert first.claim != second.claim
    assert process_of(first.claim) == process_of(second.claim) == "1"
    assert not work.end(first)
    assert work.end(second)


def test_renewed_lease_is_neither_claimed_nor_released(work: Work) -> None:
    claimed = work.claim("1")
    assert claimed is not None
    work.renew(claimed, NOON + 2 * LEASE)
    later = NOON + LEASE + SECOND
    assert work.claim("2", later) is None
    assert work.release(now=later) == 0
    assert work.release(now=later + LEASE) == 1


def test_dead_owner_is_released_at_once_and_a_living_one_is_not(work: Work) -> None:
    assert work.claim("17")
    assert work.release("1", "7") == 0
    assert work.release("17") == 1
    row = work.row
    assert (row.state, row.lease_owner, row.lease_until, row.attempts) == ("pending", None, None, 1)
    again = work.claim("18")
    assert again is not None
    assert work.row.attempts == 2


def test_what_ends_while_it_is_released_stays_ended(work: Work) -> None:
    """PostgreSQL lets another transaction end the claim between the look at it and its release."""
    claimed = work.claim("1")
    assert claimed is not None

    def meanwhile(_process: str) -> bool:
        if not work.database.is_sqlite:  # there, writers take turns
            assert work.end(claimed)
        return True

    with work.database.write() as session:
        assert work.release_in(session, meanwhile, NOON) == int(work.database.is_sqlite)
    assert (work.row.state == "pending") is work.database.is_sqlite


def test_attempt_that_was_none_does_not_count(work: Work) -> None:
    for counted, attempts in ((False, 0), (True, 1), (False, 1)):
        claimed = work.claim()
        assert claimed is not None
        assert work.give_back(claimed, counted=counted)
        assert (work.row.state, work.row.attempts) == ("pending", attempts)


def test_lease_of_a_clock_that_ran_ahead_is_over_now(work: Work) -> None:
    assert work.claim("1")
    with work.database.write() as session:
        session.execute(update(work.leases.table).values(lease_until=AHEAD))
    assert work.release(now=NOON) == 1
    assert work.claim("2")


def test_lease_holds_for_a_clock_that_is_behind(work: Work) -> None:
    assert work.claim("1", NOON)
    assert work.claim("2", NOON - timedelta(minutes=30)) is None
    assert work.release(now=NOON - timedelta(minutes=30)) == 0


@pytest.mark.parametrize("kind", [delivery, commitment], ids=lambda make: make.__name__)
def test_what_is_due_in_a_future_that_no_wait_reaches_is_due_now(
    kind: Callable[[Database, int], Work], with_model: Database, new_instance: Callable[..., NewInstance]
) -> None:
    with with_model.write() as session:
        recorded = record_instance(session, new_instance())
    assert recorded.analysis_id is not None
    work = kind(with_model, recorded.analysis_id)
    for due, is_claimed in ((NOON + SECOND, False), (AHEAD, True)):
        with with_model.write() as session:
            session.execute(update(work.leases.table).values(next_attempt_at=due))
            if kind is commitment:
                assert commitment_requests.is_any_open(session, NOON) is is_claimed
        assert (work.claim() is not None) is is_claimed


def test_analysis_queued_in_the_future_is_queued_now(
    with_model: Database, new_instance: Callable[..., NewInstance]
) -> None:
    with with_model.write() as session:
        identity = record_instance(session, new_instance(received_at=AHEAD)).analysis_id
    assert identity is not None
    with with_model.write() as session:
        assert lifecycle.requeue_pending(session, NOON, LEASE, 10) == [identity]
        assert lifecycle.requeue_pending(session, NOON, LEASE, 10) == [], "once, not for ever"


def test_what_is_due_soon_is_not_offered_early(with_model: Database, new_instance: Callable[..., NewInstance]) -> None:
    with with_model.write() as session:
        record_instance(session, new_instance(received_at=NOON + timedelta(seconds=5)))
        session.execute(update(Analysis).values(enqueued_at=NOON + timedelta(seconds=5)))
        assert lifecycle.requeue_pending(session, NOON, LEASE, 10) == []


def test_leases_are_measured_by_the_database_servers_clock_where_it_has_one(database: Database) -> None:
    with database.read() as session:
        moment = database_time(session, lambda: NOON)
        time.sleep(0.01)
        later = database_time(session, lambda: NOON)
    if database.is_sqlite:
        assert moment == later == NOON
    else:
        assert moment.tzinfo is UTC
        assert abs(moment - datetime.now(UTC)) < timedelta(seconds=30)
        assert later > moment, "of the moment, not of the transaction's begin"
