"""A destination's sender: what it cannot send says why and is tried again, whatever went wrong; others go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db.analysis import lifecycle
from db.delivery import objects, outbox
from db.intake.instances import record_instance
from db.model_registry import activation
from db.reasons import ReasonCode
from db.records import NewInstance, ObjectKey, ObjectRecord
from db.retention.erasure import removable
from db.tables.analyses import Analysis
from db.tables.delivery import Delivery, MadeObject
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL, NOON, heatmap
from tests.db.conftest import new_instance as new_instance
from worker.config.destinations import DicomDestination
from worker.delivery.sender import DestinationSender, SenderDied, deliver_forever
from worker.delivery.transports.transport import DestinationUnreachable, Item, SendOutcome
from worker.installation import Site
from worker.runtime.clock import Clock, now
from worker.runtime.registered_process import RegisteredProcess
from worker.runtime.timeouts import DELIVERY_LEASE, DELIVERY_POLL, PEER_AWAY


@pytest.fixture
def owed(site: Site, new_instance: Callable[..., NewInstance]) -> Site:
    """A site that owes one object to one destination."""
    file = site.store.put(b"heatmap")
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
        recorded = record_instance(session, new_instance())
        assert recorded.analysis_id is not None
        claimed = lifecycle.claim(session, recorded.analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, result(), NOON)
        made = heatmap(claimed, uri=file.uri, sha256=file.sha256, size=file.size)
        objects.record(session, made, NOON)
    return site


def of(site: Site, clock: Clock = now) -> RegisteredProcess:
    """The row of the process that delivers."""
    return RegisteredProcess(lambda: site.database, "deliver", clock=clock)


class FakeTransport:
    """Does with the items what ``send`` does."""

    def __init__(self, send: Callable[[Sequence[Item]], Iterable[SendOutcome]]) -> None:
        self._send = send
        self.closed = False

    def send(self, items: Sequence[Item]) -> Generator[SendOutcome]:
        yield from self._send(items)

    def close(self) -> None:
        self.closed = True


def sender_by(
    site: Site, send: Callable[[Sequence[Item]], Iterable[SendOutcome]], clock: Clock = now
) -> DestinationSender:
    return DestinationSender("pacs", FakeTransport(send), site.database, site.store, of(site, clock))


def stored(items: Sequence[Item]) -> list[SendOutcome]:
    return [SendOutcome(item.key, "stored", "", 0) for item in items]


def the_delivery(site: Site) -> Delivery:
    with site.database.read() as session:
        return session.scalars(select(Delivery)).one()


def test_unforeseen_error_is_reported_without_its_text_and_the_object_is_tried_again(
    owed: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_items: Sequence[Item]) -> list[SendOutcome]:
        raise ValueError("Doe^Jane")

    assert sender_by(owed, broken).send_batch() == 0
    row = the_delivery(owed)
    assert (row.state, row.reason, row.lease_owner) == ("pending", "unexpected ValueError", None)
    assert row.next_attempt_at <= now() + timedelta(seconds=10)
    output = capsys.readouterr()
    assert "ValueError" in output.err
    assert "Doe" not in output.out + output.err


def test_sender_without_anything_due_writes_nothing_and_sends_once_it_is(
    owed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owed.database.write() as session:
        session.execute(update(Delivery).values(next_attempt_at=now() + timedelta(minutes=5)))
    sender = sender_by(owed, stored)
    with monkeypatch.context() as idle:
        idle.setattr(type(owed.database), "write", lambda _database: pytest.fail("an idle sender writes"))
        assert [sender.send_batch() for _ in range(3)] == [0, 0, 0]
    with owed.database.write() as session:  # as of a process that died while it was sending
        session.execute(
            update(Delivery).values(state="sending", lease_owner="gone:1", lease_until=now() - timedelta(seconds=1))
        )
    assert sender.send_batch() == 1
    assert the_delivery(owed).state == "sent"


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_lost_object_fails_with_the_reason_is_offered_never_and_holds_up_nobody(owed_five: Site, how: str) -> None:
    (file,) = owed_five.store.root.glob("??/??/*")
    whole = owed_five.store.put(b"another heatmap")
    with owed_five.database.write() as session:
        session.execute(update(MadeObject).where(MadeObject.id > 1).values(uri=whole.uri, sha256=whole.sha256))
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(b"heatmaP")
    sends = sender_by(owed_five, stored)
    assert sends.send_batch() == 5
    assert states(owed_five) == [("failed", 1)] + [("sent", 1)] * 4
    with owed_five.database.read() as session:
        row = session.get_one(Delivery, 1)
        assert row.reason_code == ReasonCode.STORED_FILE_LOST
        assert how in row.reason
        assert len(removable(session, before=None, limit=9)) == 1, "nothing is left that retention would lose"


def test_store_that_is_away_is_waited_for(owed: Site) -> None:
    owed.store.root.rename(owed.store.root.with_name("away"))
    sender_by(owed, stored).send_batch()
    row = the_delivery(owed)
    assert (row.state, row.reason_code) == ("pending", ReasonCode.STORE_UNAVAILABLE)


def test_object_with_a_newer_revision_is_not_sent(owed: Site) -> None:
    offered: list[str] = []

    def send(items: Sequence[Item]) -> Iterable[SendOutcome]:
        offered.extend(item.path.read_text() for item in items)
        return stored(items)

    with owed.database.write() as session:
        (item,) = outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=9)
    file = owed.store.put(b"revised")
    with owed.database.write() as session:
        analysis = session.scalars(select(Analysis)).one()
        first = session.scalars(select(MadeObject)).one()
        key = ObjectKey(**{name: getattr(first, name) for name in ObjectKey.__dataclass_fields__})
        revised = ObjectRecord(
            key, 2, "0" * 64, first.study_id, (analysis.id,), "2.25.2", file.uri, file.sha256, 7, NOON, ("pacs",)
        )
        objects.record(session, revised, NOON)
        outbox.mark_retry(session, item, next_attempt_at=NOON, reason="A700", code=ReasonCode.PEER_STATUS)
    assert sender_by(owed, send).send_batch() == 1
    assert offered == ["revised"]
    assert [state for state, _ in states(owed)] == ["superseded", "sent"]


@pytest.fixture
def owed_five(owed: Site) -> Site:
    """The same site, owing four objects more."""
    with owed.database.write() as session:
        first = session.scalars(select(MadeObject)).one()
        for number in range(2, 6):
            copy = {column.name: getattr(first, column.name) for column in MadeObject.__table__.columns}
            made = MadeObject(**{**copy, "id": number, "label": str(number), "sop_instance_uid": f"2.25.{number}"})
            session.add(made)
            session.flush()
            session.add(
                Delivery(object_id=number, destination="pacs", state="pending", next_attempt_at=NOON, created_at=NOON)
            )
    return owed


def states(site: Site) -> list[tuple[str, int]]:
    with site.database.read() as session:
        return [(row.state, row.attempts) for row in session.scalars(select(Delivery).order_by(Delivery.id))]


def test_lease_of_what_is_still_to_come_is_renewed_after_each_object(
    owed_five: Site,
) -> None:
    slow = [now()]

    def send(items: Sequence[Item]) -> Iterable[SendOutcome]:
        for item in items:
            slow[0] += DELIVERY_LEASE * 0.6  # less than a lease an object, more than a lease for two
            with owed_five.database.write() as session:
                assert outbox.release_dead(session, lambda _owner: False, slow[0]) == 0
            yield SendOutcome(item.key, "stored", "", 0)

    assert sender_by(owed_five, send, lambda: slow[0]).send_batch() == 5
    assert states(owed_five) == [("sent", 1)] * 5


def test_stop_between_two_objects_gives_the_rest_back_without_counting_an_attempt(owed_five: Site) -> None:
    stop = threading.Event()

    def send(items: Sequence[Item]) -> Iterable[SendOutcome]:
        for item in items:
            stop.set()
            yield SendOutcome(item.key, "stored", "", 0)

    sender_by(owed_five, send).run(stop)
    assert states(owed_five) == [("sent", 1)] + [("pending", 0)] * 4


def test_destination_that_is_away_is_asked_less_and_less_and_its_objects_wait_no_longer_than_that(owed: Site) -> None:
    answering = False

    def send(items: Sequence[Item]) -> list[SendOutcome]:
        if not answering:
            raise DestinationUnreachable("nobody answers")
        return stored(items)

    sends = sender_by(owed, send)
    pauses = []
    for _ in range(6):
        assert sends.send_batch() == 0
        pauses.append(sends.pause)
        row = the_delivery(owed)
        assert (row.state, row.reason) == ("pending", "nobody answers")
        assert row.next_attempt_at <= now() + timedelta(seconds=sends.pause)
        with owed.database.write() as session:
            session.execute(update(Delivery).values(next_attempt_at=NOON))
    assert pauses == [*PEER_AWAY, PEER_AWAY[-1], PEER_AWAY[-1]]
    answering = True
    assert sends.send_batch() == 1
    assert sends.pause == DELIVERY_POLL


def test_object_that_breaks_the_sender_holds_up_no_other(owed_five: Site) -> None:
    def send(items: Sequence[Item]) -> Iterable[SendOutcome]:
        if any(item.key == "1" for item in items):
            raise KeyError("poison")
        return stored(items)

    sends = sender_by(owed_five, send)
    for _ in range(3):
        sends.send_batch()
        with owed_five.database.write() as session:  # the others are due again, the broken one is not yet
            session.execute(update(Delivery).where(Delivery.id > 1).values(next_attempt_at=NOON))
            session.execute(update(Delivery).where(Delivery.id == 1).values(next_attempt_at=now() + LEASE))
    assert [state for state, _ in states(owed_five)] == ["pending", "sent", "sent", "sent", "sent"]


def test_transport_is_closed_when_the_sender_stops(owed: Site) -> None:
    stop = threading.Event()

    def send(items: Sequence[Item]) -> list[SendOutcome]:
        stop.set()
        return stored(items)

    transport = FakeTransport(send)
    DestinationSender("pacs", transport, owed.database, owed.store, of(owed)).run(stop)
    assert transport.closed
    assert states(owed) == [("sent", 1)]


def test_thread_that_ends_by_itself_ends_the_process(owed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    settings = owed.settings.model_copy(update={"destinations": (destination,)})
    monkeypatch.setattr(DestinationSender, "run", lambda _self, _stop: None)
    with pytest.raises(SenderDied, match="deliver pacs"):
        deliver_forever(settings, owed.database, owed.store, threading.Event(), of(owed))


def test_thread_that_ends_because_it_was_asked_to_stop_is_not_taken_for_one_that_died(owed: Site) -> None:
    class StoppedBetweenTheWaitAndTheLook(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread() is not threading.main_thread():
                return super().wait(timeout)
            if self.is_set():
                return True
            self.set()
            for thread in threading.enumerate():
                if thread.name == "deliver pacs":
                    thread.join()
            return False

    destination = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    settings = owed.settings.model_copy(update={"destinations": (destination,)})
    deliver_forever(settings, owed.database, owed.store, StoppedBetweenTheWaitAndTheLook(), of(owed))
