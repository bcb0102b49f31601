"""Requests that are not served on their presentation context: aborted at once and recorded, never answered wrongly."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest

from tests.dicom_io.wire import PATIENCE, Served
from tests.peers.processes import wait_until
from tests.peers.raw_association import ABORT, CR, ECHO_CONTEXT, IMPLICIT, VERIFICATION, Request, context, read_pdu

COMMITMENT = b"1.2.840.10008.1.20.1"
WELL_KNOWN = (0x1001, b"1.2.840.10008.1.20.1.1")
ON_VERIFICATION, ON_CR, ON_COMMITMENT = 1, 3, 5
ECHO, STORE, FIND, GET, ACTION = 0x30, 0x01, 0x20, 0x110, 0x130
INSTANCE = (0x1000, b"1.2.3.4")


def command(kind: int, *elements: tuple[int, bytes | int], message_id: int | None = 1) -> bytes:
    numbers = [(0x0100, kind), (0x0800, 0x0101), *([] if message_id is None else [(0x0110, message_id)])]
    found = b""
    for element, value in sorted([*numbers, *elements]):
        raw = struct.pack("<H", value) if isinstance(value, int) else value + b"\0" * (len(value) % 2)
        found += struct.pack("<HHI", 0, element, len(raw)) + raw
    return struct.pack("<HHII", 0, 0, 4, len(found)) + found


def answer(port: int, number: int, message: bytes) -> bytes:
    """What a message on one of three accepted contexts is answered with: the whole PDU."""
    contexts = ECHO_CONTEXT + context(ON_CR, CR, IMPLICIT) + context(ON_COMMITMENT, COMMITMENT, IMPLICIT)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(replace(Request(), contexts=contexts).pdu())
        read_pdu(connection)
        value = struct.pack(">IBB", len(message) + 2, number, 3) + message
        connection.sendall(struct.pack(">BBI", 4, 0, len(value)) + value)
        return read_pdu(connection)


VERIFYING, STORING, COMMITTING = (2, VERIFICATION), (2, CR), (3, COMMITMENT)
UNSERVED = {
    "C-FIND as verification": (ON_VERIFICATION, command(FIND, VERIFYING), "a 0x0020 request on the context of Verif"),
    "commitment as verification": (
        ON_VERIFICATION,
        command(ACTION, (3, VERIFICATION), WELL_KNOWN, (0x1008, 1)),
        "a N-ACTION request on the context of Verification",
    ),
    "an object as verification": (
        ON_VERIFICATION,
        command(STORE, STORING, INSTANCE),
        "a C-STORE request on the context of Verification",
    ),
    "C-ECHO of another class": (
        ON_VERIFICATION,
        command(ECHO, (2, b"1.2.3")),
        "a C-ECHO request of another SOP class than its context's",
    ),
    "C-ECHO without a class": (ON_VERIFICATION, command(ECHO), "a C-ECHO request without AffectedSOPClassUID"),
    "C-ECHO without an id": (
        ON_VERIFICATION,
        command(ECHO, VERIFYING, message_id=None),
        "a C-ECHO request without MessageID",
    ),
    "C-ECHO as radiograph": (ON_CR, command(ECHO, VERIFYING), "a C-ECHO request on the context of Computed Radiog"),
    "C-STORE without an id": (
        ON_CR,
        command(STORE, STORING, INSTANCE, message_id=None),
        "a C-STORE request without MessageID",
    ),
    "N-GET of commitment": (
        ON_COMMITMENT,
        command(GET, COMMITTING, WELL_KNOWN),
        "a 0x0110 request on the context of St",
    ),
    "N-ACTION of no instance": (
        ON_COMMITMENT,
        command(ACTION, COMMITTING, (0x1008, 1)),
        "a N-ACTION request without RequestedSOPInstanceUID",
    ),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_request_that_is_not_served_is_aborted_at_once_and_recorded(served: Served, name: str) -> None:
    witness, listener = served
    number, message, reason = UNSERVED[name]
    assert answer(listener.port, number, message)[:1] == bytes((ABORT,))
    wait_until(lambda: bool(witness.rejected), PATIENCE, "it is recorded", every=0.01)
    assert len(witness.rejected) == 1, [each.reason for each in witness.rejected]
    rejection = witness.rejected[0]
    assert rejection.reason.startswith(f"association aborted: {reason}")
    assert (rejection.calling_ae, rejection.address) == ("MODALITY", "127.0.0.1")
    assert witness.received == []


@pytest.mark.parametrize("message_id", [0, 1, 65535])
def test_request_with_any_message_id_is_served(served: Served, message_id: int) -> None:
    response = answer(served[1].port, ON_VERIFICATION, command(ECHO, VERIFYING, message_id=message_id))
    assert struct.pack("<HHIH", 0, 0x0120, 2, message_id) in response
    assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in response


@pytest.mark.parametrize("kind", [0x8030, 0x0FFF], ids=["a response to nothing", "a cancel of nothing"])
def test_message_that_needs_no_answer_is_ignored(served: Served, kind: int) -> None:
    witness, listener = served
    contexts = replace(Request(), contexts=ECHO_CONTEXT).pdu()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE) as connection:
        connection.sendall(contexts)
        read_pdu(connection)
        for message in (command(kind, VERIFYING, (0x0120, 1), message_id=None), command(ECHO, VERIFYING)):
            value = struct.pack(">IBB", len(message) + 2, 1, 3) + message
            connection.sendall(struct.pack(">BBI", 4, 0, len(value)) + value)
        assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in read_pdu(connection)
    assert witness.rejected == []
