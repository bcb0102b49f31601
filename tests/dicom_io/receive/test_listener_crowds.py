"""Many, idle and slow clients at the listener: conforming senders are served meanwhile."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from pynetdicom.association import Association

from dicom_io.network.association import Peer
from dicom_io.network.status_codes import Status
from dicom_io.network.tls import TlsFiles, calling_context
from dicom_io.receive.listener import Listener
from dicom_io.receive.memory_budget import BudgetExhausted, MemoryBudget
from dicom_io.send.storage_scu import Outgoing, echo, send
from tests.dicom_io.images import INSTANCE, data_set_of, image_file, write
from tests.dicom_io.wire import PATIENCE, Witness, association_threads, listening, store
from tests.peers.certificates import Authority
from tests.peers.processes import wait_until
from tests.peers.raw_dicom import associated

FOREVER = 600.0  # seconds: no time limit of the listener ends an idle client before the others were served
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the beginning of one of 512 bytes
HALF_A_REQUEST = b"\x01\x00\x00\x00\x01\x00\x00\x01"


@pytest.fixture(params=["plain", "tls"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> TlsFiles | None:
    return Authority(tmp_path / "ca").issue("everybody") if request.param == "tls" else None


@contextmanager
def connections(port: int, number: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            connection.sendall(first)
            opened.append(connection)
        yield opened


def is_served(listener: Listener, files: TlsFiles | None, path: Path) -> bool:
    """Echo and store as one does."""
    peer = Peer(
        "CXRTRIAGE", "127.0.0.1", listener.port, tls=files, association_timeout=PATIENCE, response_timeout=PATIENCE
    )
    echo(peer)
    return [outcome.result for outcome in send(peer, [Outgoing("radiograph", path)])] == ["stored"]


@pytest.mark.parametrize(
    ("number", "first"),
    [(1, b""), (1, CLIENT_HELLO), (200, b""), (200, CLIENT_HELLO), (60, HALF_A_REQUEST)],
    ids=["a silent client", "half a handshake", "200 idle ones", "200 half handshakes", "60 half requests"],
)
def test_others_are_served_while_idle_clients_are_connected(
    number: int, first: bytes, files: TlsFiles | None, tmp_path: Path
) -> None:
    witness = Witness()
    radiograph = write(tmp_path, image_file(np.zeros((64, 64), np.uint16)))
    with (
        listening(witness, tls=files, association_timeout=FOREVER, pdu_timeout=FOREVER) as listener,
        connections(listener.port, number, first),
    ):
        assert is_served(listener, files, radiograph)
        with connections(listener.port, 5, first):
            assert is_served(listener, files, radiograph)
    assert len(witness.received) == 2


def test_idle_connections_cost_no_threads_and_are_closed_in_time() -> None:
    before = association_threads()  # of the test before, which may still be ending
    with (
        listening(Witness(), association_timeout=0.5, maximum_associations=10) as listener,
        connections(listener.port, 60) as idle,
    ):
        # 4 x maximum_associations wait at most: the oldest made room
        assert all(connection.recv(1) == b"" for connection in idle[:20])
        assert not set(association_threads()) - set(before)
        assert all(connection.recv(1) == b"" for connection in idle[20:])


def test_a_handshake_that_is_not_completed_is_recorded_and_an_idle_connection_is_not(tmp_path: Path) -> None:
    witness = Witness()
    files = Authority(tmp_path / "ca").issue("everybody")
    with listening(witness, tls=files, association_timeout=2) as listener:
        with connections(listener.port, 1) as silent, connections(listener.port, 1, CLIENT_HELLO) as half:
            assert silent[0].recv(1) == b""
            assert half[0].recv(1) == b""
        wait_until(lambda: bool(witness.rejected), PATIENCE, "recorded")
    assert ["not completed in time" in rejection.reason for rejection in witness.rejected] == [True]


def test_others_are_served_while_one_sends_a_byte_at_a_time(files: TlsFiles | None, tmp_path: Path) -> None:
    witness = Witness()
    radiograph = write(tmp_path, image_file(np.zeros((64, 64), np.uint16)))
    with listening(witness, tls=files, pdu_timeout=FOREVER) as listener:
        slow = _slow_sender(listener, files)
        assert all(is_served(listener, files, radiograph) for _ in range(3))
        assert slow.is_alive()
    slow.join()
    assert len(witness.received) == 3


def test_who_sends_a_byte_at_a_time_is_disconnected_after_the_time_of_a_pdu(files: TlsFiles | None) -> None:
    witness = Witness()
    with listening(witness, tls=files, pdu_timeout=2) as listener:
        _slow_sender(listener, files).join()
        wait_until(lambda: bool(witness.rejected), PATIENCE, "recorded")
    assert "disconnected: the peer sent" in witness.rejected[0].reason
    assert witness.rejected[0].calling_ae == "SLOW"


def _slow_sender(listener: Listener, files: TlsFiles | None) -> threading.Thread:
    association = associated(listener.port, calling="SLOW", tls=None if files is None else calling_context(files))
    assert association.is_established
    wire = association.dul.socket.socket
    wire.sendall(b"\x04\x00\x00\x00\x10\x00")
    wire.settimeout(PATIENCE)

    def trickle() -> None:
        try:
            while True:
                wire.send(b"x")
                time.sleep(0.1)
        except OSError:
            association.kill()

    thread = threading.Thread(target=trickle)
    thread.start()
    return thread


# Memory over all associations -----------------------------------------------------------------------------------------


def _in_thread(what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=what)
    thread.start()
    return thread


def test_a_request_beyond_the_budget_waits_until_an_answer_releases_bytes() -> None:
    small = data_set_of(image_file(np.zeros((100, 100), np.uint16)))  # 20 kB
    may_answer, at_once = threading.Event(), threading.Semaphore(0)

    def slowly(_received: object) -> Status:
        at_once.release()
        assert may_answer.wait(PATIENCE)
        return Status.SUCCESS

    witness = Witness(answer=slowly)
    answers: list[int] = []
    with listening(witness, maximum_held=70_000) as listener:
        associations = [associated(listener.port) for _ in range(5)]
        senders = [
            _in_thread(lambda a=each: answers.append(store(a, small, INSTANCE)[0]))  # type: ignore[misc]
            for each in associations
        ]
        assert at_once.acquire(timeout=PATIENCE)
        # three find room, and the request that began first even where three others came to their end before it
        assert [at_once.acquire(timeout=0.2) for _ in range(4)].count(True) <= 3
        wait_until(lambda: listener.held_bytes > 60_000, PATIENCE, "three requests held")
        assert listener.held_bytes <= 70_000 + len(small) + 500
        may_answer.set()
        for sender in senders:
            sender.join(PATIENCE)
        for association in associations:
            association.release()
        wait_until(lambda: listener.held_bytes == 0, PATIENCE, "nothing held")
    assert answers == [Status.SUCCESS] * 5


def test_a_request_beyond_the_budget_for_too_long_is_disconnected_and_recorded() -> None:
    large = data_set_of(image_file(np.zeros((400, 400), np.uint16)))
    hold = threading.Event()
    witness = Witness(answer=lambda _received: Status.SUCCESS if hold.wait(PATIENCE) else Status.PROCESSING_FAILURE)
    answers: list[int] = []
    with listening(witness, maximum_held=330_000, pdu_timeout=2) as listener:
        first, second = associated(listener.port), associated(listener.port)
        sender = _in_thread(lambda: answers.append(store(first, large, INSTANCE)[0]))
        wait_until(lambda: len(witness.received) == 1, PATIENCE, "the first is being stored")
        with pytest.raises(AssertionError, match="aborted instead of answering"):
            store(second, large, INSTANCE)
        hold.set()
        sender.join(PATIENCE)
        assert store(first, large, INSTANCE)[0] == Status.SUCCESS
        first.release()
    assert answers == [Status.SUCCESS]
    assert [(each.status, "bytes of unanswered requests" in each.reason) for each in witness.rejected] == [
        (Status.OUT_OF_RESOURCES, True)
    ]


def test_the_request_that_began_first_may_always_continue() -> None:
    budget = MemoryBudget(100)
    here = threading.current_thread()
    gone = threading.Event()
    other = _in_thread(lambda: gone.wait(PATIENCE))
    budget.take(here, 80, 0.1, lambda: False)
    budget.take(other, 20, 0.1, lambda: False)
    with pytest.raises(BudgetExhausted, match="100 bytes of unanswered requests are held; the maximum is 100"):
        budget.take(other, 1, 0.1, lambda: False)
    budget.take(here, 50, 0.1, lambda: False)
    budget.release(here, 80)
    assert budget.total == 70
    gone.set()
    other.join(PATIENCE)
    budget.take(here, 45, 0.1, lambda: False)
    assert budget.total == 95, "what a dead association held is free"


def test_other_called_titles_are_accepted_where_a_site_says_so() -> None:
    with listening(Witness(), check_called_ae=False) as listener:
        echo(Peer("ANYTHING", "127.0.0.1", listener.port))


def test_connections_that_end_without_an_association_leave_nothing_in_memory() -> None:
    with listening(Witness()) as listener:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE) as connection:
                connection.sendall(HALF_A_REQUEST)
        echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port))  # accepted after all of them

        def is_nothing_left() -> bool:
            gc.collect()
            return not any(isinstance(each, Association) for each in gc.get_objects())

        wait_until(is_nothing_left, PATIENCE, "the associations of those connections to be let go of")


def test_it_stops_in_order_while_connections_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    for _ in range(40):  # so that a stop falls between an association's first thread and its second
        with listening(Witness()) as listener:
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE) as connection:
                    connection.sendall(HALF_A_REQUEST)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE)
    wait_until(lambda: association_threads() == [], PATIENCE, "no thread is left")
    assert faults == []
