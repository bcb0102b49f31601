"""pynetdicom's association server, hardened: a peer can neither block a thread forever nor fill the memory.

Measured on pynetdicom 3.0.4: an accepted socket has no timeout, so a peer that sends four bytes of a PDU and then
nothing held its threads for ever; a PDU's claimed length of up to 4 GiB was read whatever the agreed maximum; and the
TLS handshake runs in the loop that accepts, where one idle TCP client blocks everybody.
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

from dicom_io.network.status_codes import Status
from dicom_io.network.tls import RenewedContext, handshake_failure, is_tls, secured, shut
from dicom_io.receive.incoming_data_set import Begin
from dicom_io.receive.memory_budget import HeldBytes, NoRoom
from dicom_io.receive.messages import ListenerSettings
from dicom_io.receive.pending_connections import Newcomers
from dicom_io.receive.pynetdicom_loop import ReadAhead, make_prompt

_log = logging.getLogger(__name__)

_LONGEST_STEP = 0.2  # seconds after which a stop is noticed while a PDU is being waited for
# PS3.8 9.3.1 bounds only P-DATA-TF by the agreed maximum; 128 contexts with 16 syntaxes each need about 0.2 MB.
_LARGEST_OTHER_PDU = 1 << 20


# calling AE title (empty where none was told yet), address, how it counts, why
OnRefused = Callable[[str, str, Status, str], None]


class BoundedSocket(AssociationSocket):
    """A peer's socket that reads a PDU within a time and a size, or gives the connection up."""

    def __init__(self, assoc: Association, client_socket: socket.socket, server: "AssociationServer", key: int) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self.server = server
        self.key = key
        self.unanswered = 0  # bytes since the last request was answered: what is held for it
        self.largest_pdu = max(server.settings.maximum_pdu + 6, _LARGEST_OTHER_PDU)
        self.ahead = ReadAhead()
        client_socket.settimeout(server.settings.pdu_timeout)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; unlike `select`, for any number of open files."""
        if self.socket is None or not self._is_connected:
            return False
        return self.has_buffered() or _is_readable(self.socket)

    def has_buffered(self) -> bool:
        """Whether bytes were received that nobody has asked for yet."""
        return bool(self.ahead) or (isinstance(self.socket, ssl.SSLSocket) and bool(self.socket.pending()))

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, fewer when the peer closes.

        Raises
        ------
        OSError
            If the peer claims more than the largest PDU, is slower than the timeout, or finds no room for more (the
            connection is closed), or if the listener stops.
        """
        received = bytearray()
        try:
            received = self._read(nr_bytes)
        finally:
            if len(received) < nr_bytes and self.assoc.requestor.primitive is None:
                # wake who waits for the association request that now never comes; it would for the whole timeout
                self.assoc.dul.to_user_queue.put(None)
        return received

    def _read(self, nr_bytes: int) -> bytearray:
        peer = self.socket
        if peer is None:
            return bytearray()
        if nr_bytes > self.largest_pdu:
            raise self._given_up(f"the peer claims a PDU of {nr_bytes} bytes; the maximum is {self.largest_pdu}")
        self.unanswered += nr_bytes
        self._make_room(nr_bytes)
        timeout = self.server.settings.pdu_timeout
        received = bytearray(nr_bytes)
        view, count = memoryview(received), 0
        deadline = time.monotonic() + timeout
        while count < nr_bytes:
            remaining = deadline - time.monotonic()
            if self.server.closing.is_set():
                raise ConnectionAbortedError("the listener stops in the middle of a PDU")
            if remaining <= 0:
                raise self._given_up(f"the peer sent {count} of {nr_bytes} bytes in {timeout:g} s")
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

    def take_whole_pdu(self, kind: int) -> memoryview | None:
        """Take the next PDU's body if it is of this kind and was received already; it counts as if it were read."""
        body = self.ahead.take_whole_pdu(kind)
        if body is not None:
            self.unanswered += len(body) + 6
            self._make_room(len(body) + 6)
        return body

    def _make_room(self, nr_bytes: int) -> None:
        largest = self.server.settings.maximum_object
        if self.unanswered > largest:
            raise self._given_up(
                f"the peer sent {self.unanswered} bytes of one request; the maximum is {largest}",
                Status.OUT_OF_RESOURCES,
            )
        try:
            patience = self.server.settings.pdu_timeout
            self.server.held.take(self.assoc, nr_bytes, patience, self.server.closing.is_set)
        except NoRoom as error:
            raise self._given_up(str(error), Status.OUT_OF_RESOURCES) from error

    def _given_up(self, reason: str, status: Status = Status.CANNOT_UNDERSTAND) -> OSError:
        """Close the connection; an association's end for it is told, a stranger's is not: port scans are many."""
        self.hang_up()
        if self.assoc.is_established and not self.server.closing.is_set():
            requestor = self.assoc.requestor
            self.server.on_refused(requestor.ae_title.strip(), requestor.address, status, f"hung up on: {reason}")
        return OSError(reason)

    def close(self) -> None:
        """Close the connection and forget what it held."""
        self.server.newcomers.leave(self.key)
        self.server.held.release(self.assoc)
        super().close()

    def hang_up(self) -> None:
        """Close the connection under whoever waits for it."""
        if self.socket is not None:
            shut(self.socket)


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # closed: reading it will tell
        return True


class _Handler(RequestHandler):
    """Starts an association on a bounded socket once the peer speaks, in threads that never keep the process alive.

    It runs in a thread of its own. Until the peer has said something there are no association and no threads of
    pynetdicom's, which look a thousand times a second for what never comes.
    """

    server: "AssociationServer"
    request: socket.socket
    key: int

    def handle(self) -> None:
        """Shake hands where TLS is spoken, wait for the first byte, and start an association."""
        server = self.server
        self.key = next(server.keys)
        server.newcomers.enter(self.key, self.request)
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
        """Whether the peer has begun to speak DICOM; what is refused is told."""
        plain = self.request
        if not self._has_spoken(plain, deadline):
            return False
        try:
            first = plain.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        if not first:  # hung up without a word: a probe, or one that made room for others
            return False
        if self.server.tls is None:
            if is_tls(first):
                self._refuse("TLS is spoken on this port, which is plain ([dicom.tls] is absent)")
            return not is_tls(first)
        context = self.server.tls.current()
        self.request = encrypted = secured(plain, context, max(0.01, deadline - time.monotonic()))
        self.server.newcomers.replace(self.key, encrypted)
        try:
            encrypted.do_handshake()
        except OSError as error:
            if not self.server.closing.is_set():
                self._refuse(f"TLS: {handshake_failure(error)}")
            return False
        return bool(encrypted.pending()) or self._has_spoken(encrypted, deadline)

    def _has_spoken(self, connection: socket.socket, deadline: float) -> bool:
        """Wait until there is something to read; False if not in time, or if the connection was ended."""
        try:
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        except (OSError, ValueError):
            return False
        return bool(events) and not self.server.closing.is_set()

    def _refuse(self, reason: str) -> None:
        self.server.on_refused("", self.remote.address, Status.NOT_AUTHORISED, f"connection refused: {reason}")

    def _leave(self) -> None:
        self.server.newcomers.leave(self.key)
        self.server.shutdown_request(self.request)

    def _create_association(self) -> Association:
        association = super()._create_association()
        make_prompt(association, self.server.begin)
        association.set_socket(BoundedSocket(association, self.request, self.server, self.key))
        association.dul.daemon = True
        return association


class AssociationServer(ThreadedAssociationServer):
    """Accepts connections, more than five at once; shakes hands, waits and serves in threads of their own."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        settings: ListenerSettings,
        tls: RenewedContext | None,
        on_refused: OnRefused,
        begin: Begin | None,
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        self.settings = settings
        self.tls = tls  # not pynetdicom's `ssl_context`, which shakes hands in the loop that accepts
        self.on_refused = on_refused
        self.begin = begin
        self.closing = threading.Event()
        self.newcomers = Newcomers(4 * settings.maximum_associations)
        self.held = HeldBytes(settings.maximum_held)
        self.keys = itertools.count()
        super().__init__(*args, request_handler=_Handler, **keywords)

    def service_actions(self) -> None:
        """Between two connections, let go of what the dead held: a port scanner's connections never release it."""
        self.held.forget_the_dead()
        super().service_actions()

    def settled(self, association: Association) -> None:
        """An association was established on this connection: it is no newcomer any more."""
        if isinstance(association.dul.socket, BoundedSocket):
            self.newcomers.leave(association.dul.socket.key)

    @staticmethod
    @contextlib.contextmanager
    def answering(association: Association) -> Iterator[None]:
        """Around the answer to a request: its bytes are counted until then, those that follow belong to the next."""
        connection = association.dul.socket
        if not isinstance(connection, BoundedSocket):
            yield
            return
        count, connection.unanswered = connection.unanswered, 0
        try:
            yield
        finally:
            connection.server.held.release(association, count)

    @staticmethod
    def hang_up(association: Association) -> None:
        """End a connection on which no association came to be."""
        if isinstance(association.dul.socket, BoundedSocket):
            association.dul.socket.hang_up()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what went wrong while a connection was set up; the server goes on."""
        _log.error("a connection from %s failed: %r", client_address, sys.exc_info()[1])
