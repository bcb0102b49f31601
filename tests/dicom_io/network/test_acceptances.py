"""Acceptances of our associations as peers write them: what PS3.8 says not to test must not keep us from sending."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from dicom_io.network.association import NothingAccepted, Peer, PeerUnreachable
from dicom_io.send.storage_scu import echo
from tests.peers.raw_acceptor import Acceptance, accepting, result
from tests.peers.raw_association import APPLICATION_CONTEXT, CLASS_UID, IMPLICIT, MAXIMUM_LENGTH, VERIFICATION, item

USUAL = Acceptance()


def user(*more: bytes) -> Acceptance:
    return replace(USUAL, user=(MAXIMUM_LENGTH, CLASS_UID, *more))


UNDERSTOOD = {
    "as usual": USUAL,
    "titles of NUL": replace(USUAL, titles=bytes(32)),
    "blank titles": replace(USUAL, titles=b" " * 32),
    "titles in Latin-1": replace(USUAL, titles=b"R\xd6NTGEN".ljust(32)),
    "titles of control characters": replace(USUAL, titles=b"\x07" * 32),
    "reserved bytes that are not zero": replace(USUAL, reserved=b"\xff" * 32),
    "protocol versions 1 and 2": replace(USUAL, version=3),
    "an unknown item": replace(USUAL, more=item(0x77, b"vendor")),
    "zeros behind the last item": replace(USUAL, more=b"\0\0\0"),
    "an unknown user item": user(item(0xA0, b"vendor")),
    "an empty version name": user(item(0x55, b"")),
    "a version name of 17 bytes": user(item(0x55, b"A" * 17)),
    "a version name in Latin-1": user(item(0x55, b"V\xe91")),
    "no implementation class UID": replace(USUAL, user=(MAXIMUM_LENGTH,)),
    "no maximum length": replace(USUAL, user=(CLASS_UID,)),
    "no user item": replace(USUAL, user=()),
    "a maximum length of 0": replace(USUAL, user=(item(0x51, bytes(4)), CLASS_UID)),
    "a maximum length of 7": replace(USUAL, user=(item(0x51, struct.pack(">I", 7)), CLASS_UID)),
    "roles that nobody asked for": user(item(0x54, struct.pack(">H", 17) + VERIFICATION + b"\1\1")),
    "roles that are not 0 or 1": user(item(0x54, struct.pack(">H", 17) + VERIFICATION + b"\7\7")),
    "a user identity response": user(item(0x59, struct.pack(">H", 3) + b"abc")),
    "an empty user identity response": user(item(0x59, b"")),
    "asynchronous operations": user(item(0x53, struct.pack(">HH", 0, 0))),
    "an application context name padded by NUL": replace(USUAL, application=item(0x10, APPLICATION_CONTEXT + b"\0")),
    "no application context name": replace(USUAL, application=b""),
    "a transfer syntax padded by NUL": replace(USUAL, contexts=result(1, 0, IMPLICIT + b"\0")),
    "a transfer syntax padded by a space": replace(USUAL, contexts=result(1, 0, IMPLICIT + b" ")),
    "a context that nobody proposed": replace(USUAL, contexts=USUAL.contexts + result(99, 0, IMPLICIT)),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_acceptance_that_the_standard_lets_through_is_understood(name: str) -> None:
    with accepting(UNDERSTOOD[name].pdu()) as port:
        echo(Peer("PACS", "127.0.0.1", port, association_timeout=10, response_timeout=10))


REFUSED = {
    "rejected without a transfer syntax": result(1, 3),
    "rejected with an empty transfer syntax": result(1, 4, b""),
    "rejected with a transfer syntax of noise": result(1, 4, b"\xff\x01"),
    "rejected with a code of no meaning": result(1, 99, IMPLICIT),
    "no context": b"",
    "accepted with a transfer syntax that was not proposed": result(1, 0, b"1.2.840.10008.1.2.4.50"),
    "accepted without a transfer syntax": result(1, 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_peer_that_accepts_no_context_is_told_from_one_that_is_away(name: str) -> None:
    with (
        accepting(replace(USUAL, contexts=REFUSED[name]).pdu()) as port,
        pytest.raises(NothingAccepted, match="accepted none of the proposed presentation contexts"),
    ):
        echo(Peer("PACS", "127.0.0.1", port, association_timeout=10, response_timeout=10))


@pytest.mark.parametrize(
    "answer",
    [
        replace(USUAL, more=b"\x21\0\0\xff\1").pdu(),
        USUAL.pdu()[:40],
        b"\2\0\0\0\0\4abcd",
        replace(USUAL, user=(item(0x51, struct.pack(">I", 1)), CLASS_UID)).pdu(),
    ],
    ids=["an item that is cut off", "cut off and closed", "four bytes", "a maximum length of 1"],
)
def test_acceptance_that_cannot_be_used_is_a_peer_that_cannot_be_reached(answer: bytes) -> None:
    with accepting(answer) as port, pytest.raises(PeerUnreachable) as raised:
        echo(Peer("PACS", "127.0.0.1", port, association_timeout=3, response_timeout=3))
    assert not isinstance(raised.value, NothingAccepted)
