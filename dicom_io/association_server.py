"""pynetdicom's association server, hardened: a peer can neither block a thread forever nor fill the memory.

Measured on pynetdicom 3.0.4: an accepted socket has no timeout, so a peer that sends four bytes of a PDU and then
nothing held its threads for ever; and a PDU's claimed length of up to 4 GiB was read whatever the agreed maximum.
"""

import contextlib
import logging
import socket
import sys
import threading
import time
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

_log = logging.getLogger(__name__)

_LONGEST_STEP = 0.2  # seconds after which a stop is noticed while a PDU is being waited for
# PS3.8 9.3.1 bounds only P-DATA-TF by the agreed maximum; 128 contexts with 16 syntaxes each need about 0.2 MB.
_LARGEST_OTHER_PDU = 1 << 20


class BoundedSocket(AssociationSocket):
    """A peer's socket that reads a PDU within a time and a size, or gives the connection up."""

    def __init__(
        self,
        assoc: Association,
        client_socket: socket.socket,
        pdu_timeout: float,
        largest_pdu: int,
        largest_request: int,
        closing: threading.Event,
    ) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self.pdu_timeout = pdu_timeout
        self.closing = closing
        self.largest_request = largest_request
        self.unanswered = 0  # bytes since the last request was answered: what is held in memory
        self.largest_pdu = max(largest_pdu, _LARGEST_OTHER_PDU)
        client_socket.settimeout(pdu_timeout)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, fewer when the peer closes.

        Raises
        ------
        OSError
            If the peer claims more than the largest PDU or is slower than the timeout (the connection is closed), or
            if the listener stops.
        """
        peer = self.socket
        if peer is None:
            return bytearray()
        if nr_bytes > self.largest_pdu:
            self.hang_up()
            raise OSError(f"the peer claims a PDU of {nr_bytes} bytes; the maximum is {self.largest_pdu}")
        self.unanswered += nr_bytes
        if self.unanswered > self.largest_request:
            self.hang_up()
            raise OSError(
                f"the peer sent {self.unanswered} bytes of one request; the maximum is {self.largest_request}"
            )
        received = bytearray(nr_bytes)
        view, count = memoryview(received), 0
        deadline = time.monotonic() + self.pdu_timeout
        while count < nr_bytes:
            remaining = deadline - time.monotonic()
            if self.closing.is_set():
                raise ConnectionAbortedError("the listener stops in the middle of a PDU")
            if remaining <= 0:
                self.hang_up()
                raise TimeoutError(f"the peer sent {count} of {nr_bytes} bytes in {self.pdu_timeout:g} s")
            peer.settimeout(min(remaining, _LONGEST_STEP))
            try:
                step = peer.recv_into(view[count:])
            except TimeoutError:
                continue
            if step == 0:
                break
            count += step
        peer.settimeout(self.pdu_timeout)
        view.release()
        del received[count:]
        return received

    def hang_up(self) -> None:
        """Close the connection under whoever waits for it."""
        if self.socket is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self.socket.shutdown(socket.SHUT_RDWR)


class _Handler(RequestHandler):
    """Starts an association on a bounded socket, in threads that never keep the process from ending."""

    server: "AssociationServer"

    def _create_association(self) -> Association:
        association = super()._create_association()
        # the plain socket that pynetdicom made announced the connection (Evt5); ours announces it again
        association.dul.event_queue.queue.clear()
        association.dul.socket = None
        association.set_socket(
            BoundedSocket(
                association,
                self.request,
                pdu_timeout=self.server.pdu_timeout,
                largest_pdu=self.ae.maximum_pdu_size + 6,
                largest_request=self.server.largest_request,
                closing=self.server.closing,
            )
        )
        association.dul.daemon = True
        return association


class AssociationServer(ThreadedAssociationServer):
    """Accepts connections, more than five at once, and never more than `largest_connections`."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        pdu_timeout: float,
        largest_request: int,
        largest_connections: int,
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        self.pdu_timeout = pdu_timeout
        self.largest_request = largest_request
        self.closing = threading.Event()
        self.largest_connections = largest_connections
        super().__init__(*args, request_handler=_Handler, **keywords)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Turn a connection away at once where there are too many, instead of starting a thread for it."""
        return len(self.active_associations) < self.largest_connections

    @staticmethod
    def request_answered(association: Association) -> None:
        """Start counting the bytes of the association's next request."""
        if isinstance(association.dul.socket, BoundedSocket):
            association.dul.socket.unanswered = 0

    @staticmethod
    def hang_up(association: Association) -> None:
        """End a connection on which no association came to be."""
        if isinstance(association.dul.socket, BoundedSocket):
            association.dul.socket.hang_up()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what went wrong while a connection was set up; the server goes on."""
        _log.error("a connection from %s failed: %r", client_address, sys.exc_info()[1])
