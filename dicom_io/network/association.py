"""Associations as requestor: request, outcome, release or abort."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from dicom_io.errors import StatedError
from dicom_io.network.association_acceptance import read_acceptance
from dicom_io.network.association_items import ASSOCIATE_AC, MalformedPdu
from dicom_io.network.association_log import uses
from dicom_io.network.presentation_contexts import FASTEST_PDU
from dicom_io.network.tls import TlsFiles, TlsProblem, calling_context
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


class PeerUnreachable(StatedError):
    """No association with the peer was established; a later attempt may succeed. `reason` says why."""

    exit_code: ClassVar[int] = 1


class NothingAccepted(PeerUnreachable):
    """The peer accepted none of the proposed presentation contexts; a later attempt would fail too."""


class ReactorCheckpoint(threading.Event):
    """Where pynetdicom's thread of an association pauses while another one exchanges messages.

    pynetdicom's own `clear` returns while that thread may have passed the checkpoint already: it then takes the
    response of a C-STORE as an unexpected message, and the sender waits for it in vain.
    """

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__()
        self._thread = thread
        self._turn = threading.Condition()
        self._is_waiting = False
        self.set()

    def set(self) -> None:
        """Let the thread go on."""
        with self._turn:
            super().set()
            self._turn.notify_all()

    def clear(self) -> None:
        """Return once the thread waits at the checkpoint, or has ended."""
        self.pause()

    def pause(self, timeout: float = math.inf) -> bool:
        """Return whether the thread waits at the checkpoint, within so many seconds; not where it has ended."""
        deadline = time.monotonic() + timeout
        with self._turn:
            super().clear()
            while not self._is_waiting and self._thread.is_alive() and self._thread is not threading.current_thread():
                if time.monotonic() >= deadline:
                    break
                self._turn.wait(0.05)
            return self._is_waiting and self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the thread may go on."""
        with self._turn:
            self._is_waiting = True
            self._turn.notify_all()
            is_set = self._turn.wait_for(self.is_set, timeout)
            self._is_waiting = False
            return is_set


@dataclass(frozen=True)
class Peer:
    """A DICOM node to send to; times in seconds.

    Attributes
    ----------
    calling_ae_title
        Our own AE title, which the peer may have to know.
    connect_timeout
        For the TCP connection.
    association_timeout
        For the answers to association and release requests.
    response_timeout
        For the response to one C-STORE or C-ECHO, and for one write of sending it.
    tls
        Certificates and key; None: without TLS.
    """

    ae_title: str
    host: str
    port: int
    calling_ae_title: str = "CXRTRIAGE"
    connect_timeout: float = 10.0
    association_timeout: float = 15.0
    response_timeout: float = 60.0
    tls: TlsFiles | None = None

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.host} port {self.port}"


def associate(peer: Peer, contexts: list[PresentationContext], roles: Sequence[Any] = ()) -> Association:
    """Establish an association; the caller ends it with `end`.

    Raises
    ------
    PeerUnreachable
        If none was established; a later attempt may succeed.
    NothingAccepted
        If the peer accepted none of ``contexts``; a later attempt would fail too.
    """
    uses(f"association with {peer} as {peer.calling_ae_title}")
    ae = AE(ae_title=peer.calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_pdu_size = FASTEST_PDU
    ae.connection_timeout = peer.connect_timeout
    ae.acse_timeout = peer.association_timeout
    ae.dimse_timeout = peer.response_timeout
    ae.network_timeout = peer.response_timeout
    try:
        context = None if peer.tls is None else calling_context(peer.tls)
    except TlsProblem as error:
        raise PeerUnreachable(f"{peer} cannot be reached by TLS: {error}") from error

    malformed: list[str] = []

    def connected(event: evt.Event) -> None:
        # pynetdicom would wait for ever for a peer that stops in the middle of a PDU, or stops reading
        event.assoc.dul.socket.socket.settimeout(peer.response_timeout)
        event.assoc._reactor_checkpoint = ReactorCheckpoint(event.assoc)
        event.assoc.dul._decode_pdu = _lenient(event.assoc, event.assoc.dul._decode_pdu, malformed)

    try:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.ae_title,
            ext_neg=list(roles),
            tls_args=None if context is None else (context, peer.host),
            evt_handlers=[(evt.EVT_CONN_OPEN, connected)],
        )
    except OSError as error:  # the name cannot be resolved
        raise PeerUnreachable(f"{peer} cannot be reached: {error.strerror}") from error
    except UnicodeError as error:  # such as "pacs..example.org"
        raise PeerUnreachable(f"{peer} cannot be reached: its host is neither a name nor an address") from error
    if association.is_established:
        return association
    # pynetdicom takes a rejection for a failed connection where the peer closes before its thread has looked
    answer = association.acceptor.primitive or association.dul.peek_next_pdu()
    if isinstance(answer, A_ASSOCIATE) and answer.result:
        raise PeerUnreachable(f"{peer} rejected the association of {peer.calling_ae_title}: {answer.reason_str}")
    if association.acceptor.primitive is not None:
        raise NothingAccepted(f"{peer} accepted none of the proposed presentation contexts")
    if malformed:
        raise PeerUnreachable(f"{peer} cannot be reached: its answer to the association request is {malformed[0]}")
    if context is not None and context.failure:
        raise PeerUnreachable(f"{peer} cannot be reached: {context.failure}")
    raise PeerUnreachable(f"{peer} cannot be reached: no connection, or no answer to the association request")


Decoder = Callable[[bytearray], tuple[object, str]]


def _lenient(association: Association, decode: Decoder, malformed: list[str]) -> Decoder:
    """pynetdicom's decoder of PDUs, which gets of an acceptance only what counts."""

    def decode_leniently(bytestream: bytearray) -> tuple[object, str]:
        if bytestream[0] == ASSOCIATE_AC:
            asked = association.requestor.requested_contexts
            proposed = {each.context_id or 0: [str(syntax) for syntax in each.transfer_syntax or ()] for each in asked}
            try:
                bytestream = bytearray(read_acceptance(bytes(bytestream), proposed))
            except MalformedPdu as error:
                malformed.append(str(error))
                raise
        return decode(bytestream)

    return decode_leniently


def end(association: Association) -> None:
    """Release an association; abort it where that fails."""
    try:
        if association.is_established:
            association.release()
        if not association.is_released:
            association.abort()
    finally:
        uses("")
