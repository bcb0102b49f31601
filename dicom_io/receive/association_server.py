"""pynetdicom's association server with timeouts and limits: no peer can block a thread for ever or exhaust the memory.

Measured on pynetdicom 3.0.4: an accepted socket has no timeout, so a peer that sends four bytes of a PDU and then
nothing held its threads for ever; a PDU's claimed length of up to 4 GiB was read whatever the negotiated maximum; and
the TLS handshake runs in the loop that accepts connections, where one idle TCP client blocks all others.
"""

import contextlib
import itertools
import logging
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_io.network.association_items import ASSOCIATE_AC
from dicom_io.network.status_codes import Status
from dicom_io.network.tls import RenewedContext, handshake_failure, is_tls, secured, shutdown
from dicom_io.receive.association_request import AssociationRequest
from dicom_io.receive.incoming_data_set import NewFile
from dicom_io.receive.memory_budget import BudgetExhausted, MemoryBudget
from dicom_io.receive.messages import ListenerSettings
from dicom_io.receive.pending_connections import PendingConnections
from dicom_io.receive.pynetdicom_loop import EventDrivenDul, ReadAhead, make_event_driven

_log = logging.getLogger(__name__)

_LONGEST_STEP = 0.2  # seconds after which a stop is noticed while a PDU is awaited
# PS3.8 9.3.1 limits only P-DATA-TF to the negotiated maximum; 128 contexts with 16 syntaxes each need about 0.2 MB.
_LARGEST_OTHER_PDU = 1 << 20


# calling AE title (empty where no association was requested yet), address, status, reason
OnRejected = Callable[[str, str, Status, str], None]


class BoundedSocket(AssociationSocket):
    """A peer's socket that reads a PDU within a time and a size limit, or closes the connection."""

    def __init__(self, assoc: Association, client_socket: socket.socket, server: "AssociationServer", key: int) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self.server = server
        self.key = key
        self.unanswered = 0  # bytes received since the last request was answered
        self.largest_pdu = max(server.settings.maximum_pdu + 6, _LARGEST_OTHER_PDU)
        self.ahead = ReadAhead()
        client_socket.settimeout(server.settings.pdu_timeout)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; unlike `select`, with any number of open files."""
        if self.socket is None or not self._is_connected:
            return False
        return self.has_buffered() or _is_readable(self.socket)

    def has_buffered(self) -> bool:
        """Whether bytes were received that were not read yet."""
        return bool(self.ahead) or (isinstance(self.socket, ssl.SSLSocket) and bool(self.socket.pending()))

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, fewer when the peer closes the connection.

        Raises
        ------
        OSError
            If the peer claims more than the largest PDU, is slower than the timeout, or exceeds the memory budget (the
            connection is closed), or if the listener stops.
        """
        received = bytearray()
        try:
            received = self._read(nr_bytes)
        finally:
            if len(received) < nr_bytes and self.assoc.requestor.primitive is None:
                # the association's thread would wait for an association request for the whole timeout
                self.assoc.dul.to_user_queue.put(None)
        return received

    def _read(self, nr_bytes: int) -> bytearray:
        peer = self.socket
        if peer is None:
            return bytearray()
        if nr_bytes > self.largest_pdu:
            reason = f"the peer claims a PDU of {nr_bytes} bytes; the maximum is {self.largest_pdu}"
            raise self._disconnected(reason, always=True)
        self.unanswered += nr_bytes
        self._account(nr_bytes)
        timeout = self.server.settings.pdu_timeout
        received = bytearray(nr_bytes)
        view, count = memoryview(received), 0
        deadline = time.monotonic() + timeout
        while count < nr_bytes:
            remaining = deadline - time.monotonic()
            if self.server.closing.is_set():
                raise ConnectionAbortedError("the listener stops in the middle of a PDU")
            if remaining <= 0:
                raise self._disconnected(f"the peer sent {count} of {nr_bytes} bytes in {timeout:g} s")
            peer.settimeout(min(remaining, _LONGEST_STEP))
            try:
                step = self.ahead.recv_into(peer, view[count:])
            except TimeoutError:
                continue
            if step == 0:
                break
            count += step
        peer.settimeout(timeout)
        view.release()
        del received[count:]
        return received

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; an acceptance repeats the titles and reserved fields of the request (PS3.8 Table 9-17)."""
        request = requested(self.assoc)
        if request is not None and bytestream[0] == ASSOCIATE_AC:
            bytestream = bytestream[:10] + request.echoed + bytestream[10 + len(request.echoed) :]
        super().send(bytestream)

    def take_whole_pdu(self, kind: int) -> memoryview | None:
        """Take the next PDU's body if it is of this kind and was received already; it counts as if it were read."""
        body = self.ahead.take_whole_pdu(kind)
        if body is not None:
            self.unanswered += len(body) + 6
            self._account(len(body) + 6)
        return body

    def _account(self, nr_bytes: int) -> None:
        largest = self.server.settings.maximum_object
        if self.unanswered > largest:
            raise self._disconnected(
                f"the peer sent {self.unanswered} bytes of one request; the maximum is {largest}",
                Status.OUT_OF_RESOURCES,
            )
        try:
            timeout = self.server.settings.pdu_timeout
            self.server.budget.take(self.assoc, nr_bytes, timeout, self.server.closing.is_set)
        except BudgetExhausted as error:
            raise self._disconnected(str(error), Status.OUT_OF_RESOURCES) from error

    def _disconnected(self, reason: str, status: Status = Status.CANNOT_UNDERSTAND, *, always: bool = False) -> OSError:
        """Close the connection; recorded ``always``, or where an association is established: port scans are many."""
        self.disconnect()
        if (always or self.assoc.is_established) and not self.server.closing.is_set():
            requestor = self.assoc.requestor
            self.server.on_rejected(requestor.ae_title.strip(), requestor.address, status, f"disconnected: {reason}")
        return OSError(reason)

    def close(self) -> None:
        """Close the connection and release what it held."""
        self.server.pending.remove(self.key)
        self.server.budget.release(self.assoc)
        super().close()

    def disconnect(self) -> None:
        """Shut the connection down, also while another thread reads it."""
        if self.socket is not None:
            shutdown(self.socket)


def requested(association: Association) -> AssociationRequest | None:
    """The request of an accepted association as its peer sent it; None until it was read."""
    return association.dul.request if isinstance(association.dul, EventDrivenDul) else None


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # closed: reading it raises
        return True


class _Handler(RequestHandler):
    """Starts an association on a bounded socket once the peer has sent something, in daemon threads.

    It runs in a thread of its own. Before the first byte there is no association: an idle connection costs none of
    pynetdicom's two threads.
    """

    server: "AssociationServer"
    request: socket.socket
    key: int

    def handle(self) -> None:
        """Make the TLS handshake where configured, wait for the first byte, and start an association."""
        server = self.server
        self.key = next(server.keys)
        server.pending.add(self.key, self.request)
        deadline = time.monotonic() + server.settings.association_timeout
        try:
            if not self._is_opened(deadline):
                self._leave()
                return
            association = self._create_association()
        except BaseException:
            self._leave()
            raise
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()

    def _is_opened(self, deadline: float) -> bool:
        """Whether the peer has begun to send DICOM; a connection that is rejected is recorded."""
        plain = self.request
        if not self._has_sent(plain, deadline):
            return False
        try:
            first = plain.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        if not first:  # closed without a byte: a probe, or the oldest of too many
            return False
        if self.server.tls is None:
            if is_tls(first):
                self._reject("the peer uses TLS, but this port is plain ([dicom.tls] is absent)")
            return not is_tls(first)
        context = self.server.tls.current()
        self.request = encrypted = secured(plain, context, max(0.01, deadline - time.monotonic()))
        self.server.pending.replace(self.key, encrypted)
        try:
            encrypted.do_handshake()
        except OSError as error:
            if not self.server.closing.is_set():
                self._reject(f"TLS: {handshake_failure(error)}")
            return False
        return bool(encrypted.pending()) or self._has_sent(encrypted, deadline)

    def _has_sent(self, connection: socket.socket, deadline: float) -> bool:
        """Wait until there is something to read; False if not in time, or if the connection was ended."""
        try:
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        except (OSError, ValueError):
            return False
        return bool(events) and not self.server.closing.is_set()

    def _reject(self, reason: str) -> None:
        self.server.on_rejected("", self.remote.address, Status.NOT_AUTHORISED, f"connection rejected: {reason}")

    def _leave(self) -> None:
        self.server.pending.remove(self.key)
        self.server.shutdown_request(self.request)

    def _create_association(self) -> Association:
        association = super()._create_association()
        address, on_rejected = association.requestor.address, self.server.on_rejected
        make_event_driven(
            association,
            self.server.new_file,
            lambda calling, status, reason: on_rejected(calling, address, status, reason),
        )
        association.set_socket(BoundedSocket(association, self.request, self.server, self.key))
        association.dul.daemon = True
        return association


class AssociationServer(ThreadedAssociationServer):
    """Accepts connections; handshake, waiting and serving are in a thread for each."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        settings: ListenerSettings,
        tls: RenewedContext | None,
        on_rejected: OnRejected,
        new_file: NewFile | None,
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        self.settings = settings
        self.tls = tls  # not pynetdicom's `ssl_context`, whose handshake is in the loop that accepts connections
        self.on_rejected = on_rejected
        self.new_file = new_file
        self.closing = threading.Event()
        self.pending = PendingConnections(4 * settings.maximum_associations)
        self.budget = MemoryBudget(settings.maximum_held)
        self.keys = itertools.count()
        super().__init__(*args, request_handler=_Handler, **keywords)

    def service_actions(self) -> None:
        """Release what ended associations held: those of a port scanner never release it themselves."""
        self.budget.release_ended()
        super().service_actions()

    def established(self, association: Association) -> None:
        """Take the connection of an association that was established from the pending ones."""
        if isinstance(association.dul.socket, BoundedSocket):
            self.pending.remove(association.dul.socket.key)

    @staticmethod
    @contextlib.contextmanager
    def answering(association: Association) -> Iterator[None]:
        """Release a request's bytes once it is answered; bytes that arrive meanwhile belong to the next request."""
        connection = association.dul.socket
        if not isinstance(connection, BoundedSocket):
            yield
            return
        count, connection.unanswered = connection.unanswered, 0
        try:
            yield
        finally:
            connection.server.budget.release(association, count)

    @staticmethod
    def disconnect(association: Association) -> None:
        """Close a connection on which no association was established."""
        if isinstance(association.dul.socket, BoundedSocket):
            association.dul.socket.disconnect()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log an error of setting a connection up; the server continues."""
        _log.error("a connection from %s failed: %r", client_address, sys.exc_info()[1])
