"""Storage commitment under lease: no more is claimed than is worked on, and only who holds the lease reports."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db.delivery import commitment_requests
from db.tables.delivery import Commitment
from dicom_io.network.association import Peer
from dicom_io.network.status_codes import ActionStatus
from dicom_io.receive.storage_commitment import CommitmentRequest, CommitmentResult, Reference, ReportOutcome
from tests.dicom_io.images import CR, INSTANCE
from tests.peers.processes import wait_until
from worker.config.settings import KnownPeer
from worker.installation import Site
from worker.intake import commitment_scp as committing
from worker.intake.commitment_scp import Committer
from worker.runtime.registered_process import RegisteredProcess


class Outbound:
    """Stands for a requester that answers its reports only once it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.reported: list[str] = []

    def __call__(self, _peer: Peer, result: CommitmentResult) -> None:
        assert self.may_answer.wait(60)
        self.reported.append(result.transaction_uid)


@pytest.fixture
def outbound(monkeypatch: pytest.MonkeyPatch) -> Outbound:
    outbound = Outbound()
    monkeypatch.setattr(committing, "deliver_report", outbound)
    return outbound


@pytest.fixture
def committer(site: Site) -> Committer:
    peers = (KnownPeer(ae_title="MODALITY", host="127.0.0.1", port=104),)
    configured = Site(site.settings.model_copy(update={"peers": peers}))
    process = RegisteredProcess(lambda: site.database, "listen")
    return Committer(configured, lambda *_words: ReportOutcome.ENDED, process)


def request(number: int) -> CommitmentRequest:
    return CommitmentRequest(f"1.2.{number}", (Reference(CR, INSTANCE),), "MODALITY", "127.0.0.1", f"a{number}")


def rows(site: Site) -> list[Commitment]:
    with site.database.read() as session:
        return list(session.scalars(select(Commitment).order_by(Commitment.id)))


def test_no_more_is_claimed_than_is_worked_on(site: Site, committer: Committer, outbound: Outbound) -> None:
    for number in range(10):
        assert committer.receive(request(number)) is ActionStatus.SUCCESS
    stop = threading.Event()
    thread = threading.Thread(target=committer.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: sum(row.state == "reporting" for row in rows(site)) >= 4, 60, "four are worked on")
        for _ in range(3):  # and looks again, which claimed four more each time
            committer.wake()
            stop.wait(committing.COMMITMENT_QUIET + 0.1)
        assert [row.state for row in rows(site)].count("reporting") == 4
        assert [row.attempts for row in rows(site) if row.state == "pending"] == [0] * 6
        outbound.may_answer.set()
        wait_until(lambda: {row.state for row in rows(site)} == {"reported"}, 60, "all are reported")
    finally:
        outbound.may_answer.set()
        stop.set()
        committer.wake()
        thread.join(60)
    assert sorted(outbound.reported) == [f"1.2.{number}" for number in range(10)]
    assert {row.attempts for row in rows(site)} == {1}


def claimed_once(site: Site, committer: Committer, monkeypatch: pytest.MonkeyPatch) -> committing.ClaimedCommitment:
    monkeypatch.setattr(committing, "COMMITMENT_QUIET", 0.0)
    committer.receive(request(1))
    ((claimed, _association),) = committer._claim()
    return claimed


def test_claim_whose_lease_ended_in_the_queue_reports_nothing_though_the_same_process_holds_the_next(
    site: Site, committer: Committer, outbound: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbound.may_answer.set()
    stale = claimed_once(site, committer, monkeypatch)
    with site.database.write() as session:
        session.execute(update(Commitment).values(lease_until=site.clock() - timedelta(seconds=1)))
    ((fresh, _association),) = committer._claim()
    assert fresh.id == stale.id
    committer._process(stale, None)
    assert (outbound.reported, [row.state for row in rows(site)]) == ([], ["reporting"])
    with site.database.write() as session:
        assert not commitment_requests.mark_reported(session, stale, site.clock(), 1, 0)
    committer._process(fresh, None)
    assert (outbound.reported, [row.state for row in rows(site)]) == (["1.2.1"], ["reported"])


def test_request_that_is_repeated_while_it_is_checked_is_reported_once(
    site: Site, committer: Committer, outbound: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbound.may_answer.set()
    first = claimed_once(site, committer, monkeypatch)
    committer.receive(request(1))
    committer._process(first, None)
    assert outbound.reported == []
    ((second, _association),) = committer._claim()
    committer._process(second, None)
    assert outbound.reported == ["1.2.1"]


def test_lease_lasts_for_the_report_that_is_sent_under_it(
    site: Site, committer: Committer, outbound: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbound.may_answer.set()
    claimed = claimed_once(site, committer, monkeypatch)
    with site.database.write() as session:  # the check has taken almost all of it
        session.execute(update(Commitment).values(lease_until=site.clock() + timedelta(seconds=1)))
    left: list[timedelta] = []
    monkeypatch.setattr(
        committing, "deliver_report", lambda *_words: left.append(rows(site)[0].lease_until - site.clock())
    )
    committer._process(claimed, None)
    peer = Peer("MODALITY", "127.0.0.1", 104)
    longest = peer.connect_timeout + 2 * peer.association_timeout + peer.response_timeout
    assert left[0] > timedelta(seconds=longest)


def test_request_of_an_open_association_waits_for_it_though_the_database_was_away(
    site: Site, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "COMMITMENT_QUIET", 0.0)
    committer.receive(request(1))
    with monkeypatch.context() as away:

        def fail(*_words: object, **_named: object) -> None:
            raise committing.DatabaseUnavailable("away")

        away.setattr(commitment_requests, "claim", fail)
        with pytest.raises(committing.DatabaseUnavailable):
            committer._claim()
    ((_claimed, association),) = committer._claim()
    assert association == "a1"
