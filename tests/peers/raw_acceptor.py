"""An acceptor that answers any association request with a given A-ASSOCIATE-AC, then C-ECHO and release."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.peers.raw_association import (
    APPLICATION_CONTEXT,
    CLASS_UID,
    IMPLICIT,
    MAXIMUM_LENGTH,
    VERIFICATION,
    item,
    read_pdu,
)


def result(number: int, code: int, *transfer: bytes) -> bytes:
    """A presentation context item of an acceptance (PS3.8 9.3.3.2)."""
    return item(0x21, bytes((number, 0, code, 0)) + b"".join(item(0x40, each) for each in transfer))


@dataclass(frozen=True)
class Acceptance:
    """The fields of an acceptance, by default one that every requestor understands."""

    titles: bytes = b"PACS".ljust(16) + b"CXRTRIAGE".ljust(16)
    version: int = 1
    reserved: bytes = bytes(32)
    application: bytes = item(0x10, APPLICATION_CONTEXT)
    contexts: bytes = result(1, 0, IMPLICIT)
    user: tuple[bytes, ...] = (MAXIMUM_LENGTH, CLASS_UID)
    more: bytes = b""

    def pdu(self) -> bytes:
        """The PDU."""
        body = struct.pack(">HH", self.version, 0) + self.titles + self.reserved
        body += self.application + self.contexts + item(0x50, b"".join(self.user)) + self.more
        return struct.pack(">BBI", 2, 0, len(body)) + body


@contextmanager
def accepting(acceptance: bytes) -> Iterator[int]:
    """Serve one association; the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(60)
                read_pdu(connection)
                connection.sendall(acceptance)
                while (pdu := read_pdu(connection))[:1] == b"\x04":
                    connection.sendall(_echo_response(pdu[10]))
                if pdu[:1] == b"\x05":
                    connection.sendall(struct.pack(">BBII", 6, 0, 4, 0))
                    read_pdu(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(60)


def _echo_response(context: int) -> bytes:
    elements = (
        (0x0002, VERIFICATION + b"\0"),
        (0x0100, b"\x30\x80"),
        (0x0120, b"\x01\x00"),
        (0x0800, b"\x01\x01"),
        (0x0900, b"\x00\x00"),
    )
    command = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    command = struct.pack("<HHII", 0, 0, 4, len(command)) + command
    value = struct.pack(">IBB", len(command) + 2, context, 3) + command
    return struct.pack(">BBI", 4, 0, len(value)) + value
