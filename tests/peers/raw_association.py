"""An A-ASSOCIATE-RQ PDU built byte by byte, and a C-ECHO over the association that it makes; no DICOM library."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
VERIFICATION = b"1.2.840.10008.1.1"
CR = b"1.2.840.10008.5.1.4.1.1.1"
IMPLICIT, EXPLICIT = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1"
AC, RJ, ABORT = 2, 3, 7


def item(kind: int, value: bytes, reserved: int = 0) -> bytes:
    """An item or sub-item (PS3.8 9.3.2)."""
    return struct.pack(">BBH", kind, reserved, len(value)) + value


def context(number: int, abstract: bytes, *transfer: bytes, reserved: int = 0) -> bytes:
    """A presentation context item."""
    syntaxes = [item(0x30, abstract, reserved), *(item(0x40, each, reserved) for each in transfer)]
    return item(0x20, bytes((number, reserved, reserved, reserved)) + b"".join(syntaxes), reserved)


MAXIMUM_LENGTH = item(0x51, struct.pack(">I", 16_384))
CLASS_UID = item(0x52, b"1.2.3.4")
ECHO_CONTEXT = context(1, VERIFICATION, IMPLICIT)


@dataclass(frozen=True)
class Request:
    """The fields of an association request, by default one that every acceptor accepts."""

    called: bytes = b"CXRTRIAGE"
    calling: bytes = b"MODALITY"
    version: int = 1
    reserved: int = 0
    application: bytes = item(0x10, APPLICATION_CONTEXT)
    contexts: bytes = ECHO_CONTEXT
    user: tuple[bytes, ...] = (MAXIMUM_LENGTH, CLASS_UID)
    more: bytes = b""

    def pdu(self) -> bytes:
        """The PDU."""
        titles = self.called.ljust(16) + self.calling.ljust(16)
        body = struct.pack(">HH", self.version, self.reserved) + titles + bytes((self.reserved % 256,)) * 32
        body += self.application + self.contexts + item(0x50, b"".join(self.user)) + self.more
        return struct.pack(">BBI", 1, self.reserved % 256, len(body)) + body


def read_pdu(connection: socket.socket) -> bytes:
    """The next PDU whole; what came of it where the peer closes."""
    received = _exactly(connection, 6)
    return received + _exactly(connection, struct.unpack(">I", received[2:])[0]) if len(received) == 6 else received


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        try:
            more = connection.recv(count - len(received))
        except ConnectionResetError:
            break
        if not more:
            break
        received += more
    return received


def answer(port: int, request: bytes) -> bytes:
    """The PDU that answers a request; empty where the peer closes without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        return read_pdu(connection)


def results(acceptance: bytes) -> dict[int, int]:
    """Result of each presentation context by its id (PS3.8 Table 9-18)."""
    found, position = {}, 74
    while position < len(acceptance):
        kind, _, length = struct.unpack_from(">BBH", acceptance, position)
        if kind == 0x21:
            found[acceptance[position + 4]] = acceptance[position + 6]
        position += 4 + length
    return found


def echoed(port: int, request: bytes) -> tuple[int, int, bytes]:
    """Associate, C-ECHO on context 1, release: kind of the first answer, status of the echo or -1, that answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        first = read_pdu(connection)
        if first[:1] != bytes((AC,)):
            return (first or b"\0")[0], -1, first
        command = b"".join(
            struct.pack("<HHI", 0, element, len(value)) + value
            for element, value in (
                (0x0002, VERIFICATION + b"\0"),
                (0x0100, b"\x30\x00"),
                (0x0110, b"\x01\x00"),
                (0x0800, b"\x01\x01"),
            )
        )
        command = struct.pack("<HHII", 0, 0, 4, len(command)) + command
        value = struct.pack(">IBB", len(command) + 2, 1, 3) + command
        connection.sendall(struct.pack(">BBI", 4, 0, len(value)) + value)
        response = b""
        while True:
            pdu = read_pdu(connection)
            if pdu[:1] != b"\x04":
                return AC, -1, first
            response += pdu[12:]
            if pdu[11] & 2:
                break
        at = response.index(struct.pack("<HHI", 0, 0x0900, 2))
        connection.sendall(struct.pack(">BBII", 5, 0, 4, 0))
        assert read_pdu(connection)[:1] == b"\x06", "the release was not answered"
        return AC, int(struct.unpack_from("<H", response, at + 8)[0]), first
