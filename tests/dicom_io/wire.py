"""A listener whose handlers keep everything, and a C-STORE whose response is asserted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydicom.uid import ComputedRadiographyImageStorage
from pynetdicom.association import Association

from dicom_io.header.incoming_file import IncomingFile
from dicom_io.network.association import Peer
from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Listener, ListenerHandlers, ListenerSettings, Received, Rejection
from dicom_io.send.storage_scu import echo
from tests.peers.processes import wait_until
from tests.peers.raw_dicom import associated, c_store

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)  # the listener's clock
PATIENCE = 60.0  # seconds; only there to end what hangs


@dataclass
class Witness:
    """Answers each object with the status that `answer` gives, and keeps what was received and rejected."""

    answer: Callable[[Received], Status] = lambda _received: Status.SUCCESS
    received: list[Received] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_instance(self, received: Received) -> Status:
        with self.lock:
            self.received.append(received)
        return self.answer(received)

    def handlers(self, new_file: Callable[[], IncomingFile] | None = None) -> ListenerHandlers:
        return ListenerHandlers(self.on_instance, self.rejected.append, new_file=new_file, clock=lambda: NOON)


Served = tuple[Witness, Listener]


def association_threads() -> list[threading.Thread]:
    """The threads of the listener's associations that live."""
    return [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name]


@contextmanager
def listening(witness: Witness, **settings: object) -> Iterator[Listener]:
    chosen = {"host": "127.0.0.1", "port": 0, **settings}
    with Listener(ListenerSettings(**chosen), witness.handlers()) as listener:  # type: ignore[arg-type]
        yield listener


def wait_for_the_end_of_associations(listener: Listener) -> None:
    wait_until(lambda: listener.associations == 0, PATIENCE, "every association has ended", every=0.01)


def assert_aborted(listener: Listener, pdu: bytes) -> None:
    """Send a PDU on a new association, which the listener must abort and go on serving others."""
    association = associated(listener.port)
    association.dul.socket.socket.sendall(pdu)
    wait_for_the_end_of_associations(listener)
    association.join(PATIENCE)
    assert association.is_aborted
    echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port))


def store(
    association: Association,
    data_set: bytes,
    sop_instance_uid: str,
    sop_class_uid: str = ComputedRadiographyImageStorage,
) -> tuple[int, str]:
    """Send one request; the status and error comment of its response."""
    response = c_store(association, data_set, sop_instance_uid, sop_class_uid)
    assert response is not None, "the listener aborted instead of answering"
    return int(response.Status), str(response.ErrorComment or "")
