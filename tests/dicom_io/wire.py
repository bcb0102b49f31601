"""A C-STORE with any bytes as the data set and any text as UIDs, and a listener that remembers what it was told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Listener, ListenerSettings, Received, Rejection
from tests.dicom_io.images import CR

PATIENCE = 60.0


@dataclass
class Witness:
    """The callbacks of a listener: answers what `answer` says, and keeps everything."""

    answer: Callable[[Received], Status] = lambda _received: Status.SUCCESS
    received: list[Received] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    released: queue.Queue[tuple[str, frozenset[str]]] = field(default_factory=queue.Queue)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_instance(self, received: Received) -> Status:
        with self.lock:
            self.received.append(received)
        return self.answer(received)

    def on_released(self, association_id: str, studies: frozenset[str]) -> None:
        self.released.put((association_id, studies))

    def next_release(self) -> tuple[str, frozenset[str]]:
        return self.released.get(timeout=PATIENCE)


Served = tuple[Witness, Listener]


@contextmanager
def listening(witness: Witness, **settings: object) -> Iterator[Listener]:
    chosen = {"host": "127.0.0.1", "port": 0, **settings}
    listener = Listener(
        ListenerSettings(**chosen),  # type: ignore[arg-type]
        witness.on_instance,
        witness.rejected.append,
        witness.on_released,
    )
    with listener:
        yield listener


def associated(
    port: int,
    *,
    calling: str = "MODALITY",
    called: str = "CXRTRIAGE",
    sop_class: str = CR,
    transfer_syntax: str = ExplicitVRLittleEndian,
    patience: float = PATIENCE,
) -> Association:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = patience
    return entity.associate("127.0.0.1", port, contexts=_contexts(sop_class, transfer_syntax), ae_title=called)


def _contexts(sop_class: str, transfer_syntax: str) -> list:  # type: ignore[type-arg]
    from pynetdicom.presentation import build_context

    return [build_context(sop_class, transfer_syntax)]


def store(association: Association, data_set: bytes, sop_instance_uid: str, sop_class_uid: str = CR) -> tuple[int, str]:
    """Send one request; gives the response's status and error comment."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(sop_class_uid)
    request.AffectedSOPInstanceUID = UID(sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(data_set)
    association._reactor_checkpoint.clear()
    try:
        while not association._is_paused:
            threading.Event().wait(0.001)
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, response = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    assert response is not None, "the listener aborted instead of answering"
    return int(response.Status), str(response.ErrorComment or "")
