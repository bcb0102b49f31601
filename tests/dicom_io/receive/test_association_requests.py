"""Association requests as the field writes them: accepted, or turned away and recorded."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_io.network.association import Peer
from dicom_io.network.association_items import MalformedPdu
from dicom_io.network.status_codes import Status
from dicom_io.receive.association_request import read_association_request
from dicom_io.receive.listener import Rejection
from dicom_io.send.storage_scu import echo
from tests.dicom_io.images import CR as CR_UID
from tests.dicom_io.wire import PATIENCE, Served, Witness, listening
from tests.peers.dcmtk import echoscu
from tests.peers.processes import wait_until
from tests.peers.raw_association import (
    ABORT,
    AC,
    APPLICATION_CONTEXT,
    CLASS_UID,
    CR,
    ECHO_CONTEXT,
    EXPLICIT,
    IMPLICIT,
    MAXIMUM_LENGTH,
    RJ,
    VERIFICATION,
    Request,
    answer,
    context,
    echoed,
    item,
    results,
)
from tests.peers.raw_dicom import associated

USUAL = Request()


def user(*more: bytes) -> Request:
    return replace(USUAL, user=(MAXIMUM_LENGTH, CLASS_UID, *more))


def longest(length: int) -> Request:
    return replace(USUAL, user=(item(0x51, struct.pack(">I", length)), CLASS_UID))


def role(sop_class: bytes, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(sop_class)) + sop_class + bytes((scu, scp)))


def identity(kind: int, *, response: int = 0) -> bytes:
    return item(0x58, struct.pack(">BBH", kind, response, 5) + b"alice" + struct.pack(">H", 6) + b"secret")


def recorded(witness: Witness) -> Rejection:
    """The one rejection that is recorded, which may be after the peer has its answer."""
    wait_until(lambda: bool(witness.rejected), PATIENCE, "the rejection is recorded", every=0.01)
    (rejection,) = witness.rejected
    return rejection


ACCEPTED = {
    "as usual": USUAL,
    "titles padded by NUL": replace(USUAL, called=b"CXRTRIAGE".ljust(16, b"\0"), calling=b"MOD".ljust(16, b"\0")),
    "bytes after a title's NUL": replace(USUAL, called=b"CXRTRIAGE\0\xfe\x01ab", calling=b"MOD\0\x7f\xff"),
    "called title with spaces before it": replace(USUAL, called=b"   CXRTRIAGE"),
    "calling title in Latin-1": replace(USUAL, calling=b"R\xd6NTGEN"),
    "calling title in UTF-8": replace(USUAL, calling="RÖNTGEN".encode()),
    "calling title with a control character": replace(USUAL, calling=b"MOD\x07A"),
    "calling title with a backslash": replace(USUAL, calling=b"MOD\\A"),
    "protocol versions 1 and 2": replace(USUAL, version=3),
    "every protocol version": replace(USUAL, version=0xFFFF),
    "reserved bytes that are not zero": replace(
        USUAL, reserved=0xFFFF, contexts=context(1, VERIFICATION, IMPLICIT, reserved=0xFF)
    ),
    "an unknown user item 0x5F": user(item(0x5F, b"vendor")),
    "an unknown user item 0xA0": user(item(0xA0, b"")),
    "an unknown item beside them": replace(USUAL, more=item(0x77, b"vendor")),
    "an unknown item within a context": replace(
        USUAL, contexts=item(0x20, b"\1\0\0\0" + item(0x30, VERIFICATION) + item(0x41, b"?") + item(0x40, IMPLICIT))
    ),
    "zeros behind the last item": replace(USUAL, more=b"\0\0\0"),
    "an empty version name": user(item(0x55, b"")),
    "a version name of 17 bytes": user(item(0x55, b"A" * 17)),
    "a version name of 64 bytes": user(item(0x55, b"A" * 64)),
    "a version name padded by NUL": user(item(0x55, b"V1\0\0")),
    "a version name in Latin-1": user(item(0x55, b"V\xe91")),
    "no implementation class UID": replace(USUAL, user=(MAXIMUM_LENGTH,)),
    "an empty implementation class UID": replace(USUAL, user=(MAXIMUM_LENGTH, item(0x52, b""))),
    "an implementation class UID of letters": replace(USUAL, user=(MAXIMUM_LENGTH, item(0x52, b"VENDOR"))),
    "no maximum length": replace(USUAL, user=(CLASS_UID,)),
    "no user item at all": replace(USUAL, user=()),
    "an unlimited maximum length": longest(0),
    "a maximum length of 7": longest(7),
    "a maximum length of 4 GiB": longest(0xFFFFFFFF),
    "roles for an unknown class": user(role(b"1.2.3.4.5", 1, 1)),
    "roles that are not 0 or 1": user(role(VERIFICATION, 2, 255)),
    "roles for a class padded by NUL": user(role(VERIFICATION + b"\0", 1, 0)),
    "roles that are cut off": user(item(0x54, b"\0\x11" + VERIFICATION)),
    **{f"a user identity of type {kind}": user(identity(kind)) for kind in (1, 2, 3, 4, 5, 6, 255)},
    "a user identity that asks for a response": user(identity(2, response=1)),
    "an empty user identity": user(item(0x58, b"")),
    "extended negotiation": user(item(0x56, struct.pack(">H", len(CR)) + CR + b"\1\1\1")),
    "extended negotiation without a class": user(item(0x56, b"\0\0")),
    "common extended negotiation": user(
        item(0x57, struct.pack(">H", len(CR)) + CR + struct.pack(">H", 17) + b"1.2.840.10008.4.2" + b"\0\0")
    ),
    "asynchronous operations": user(item(0x53, struct.pack(">HH", 8, 8))),
    "an asynchronous operations window of one byte": user(item(0x53, b"\1")),
    "an application context name padded by NUL": replace(USUAL, application=item(0x10, APPLICATION_CONTEXT + b"\0")),
    "an application context name padded by a space": replace(USUAL, application=item(0x10, APPLICATION_CONTEXT + b" ")),
    "UIDs padded by NUL": replace(USUAL, contexts=context(1, VERIFICATION + b"\0", IMPLICIT + b"\0")),
    "UIDs padded by a space": replace(USUAL, contexts=context(1, VERIFICATION + b" ", IMPLICIT + b" ")),
    "128 contexts": replace(USUAL, contexts=b"".join(context(n, VERIFICATION, IMPLICIT) for n in range(1, 256, 2))),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_request_that_the_standard_lets_through_is_served(served: Served, name: str) -> None:
    request = ACCEPTED[name]
    kind, status, acceptance = echoed(served[1].port, request.pdu())
    assert (kind, status) == (AC, Status.SUCCESS)
    assert acceptance[10:74] == request.pdu()[10:74], "PS3.8 Table 9-17: repeated as they were received"
    assert served[0].rejected == []


REJECTED = {
    "protocol version 2": (replace(USUAL, version=2), (1, 2, 2), "protocol version 0x0002 does not include version 1"),
    "protocol version 0": (replace(USUAL, version=0), (1, 2, 2), "protocol version 0x0000 does not include version 1"),
    "another application context": (
        replace(USUAL, application=item(0x10, b"1.2.3")),
        (1, 1, 2),
        "application context name is not that of DICOM",
    ),
    "no application context": (
        replace(USUAL, application=b""),
        (1, 1, 2),
        "application context name is not that of DICOM",
    ),
    "a blank calling title": (replace(USUAL, calling=b""), (1, 1, 3), "calling AE title is blank"),
    "a calling title of NUL": (replace(USUAL, calling=bytes(16)), (1, 1, 3), "calling AE title is blank"),
    "a blank called title": (replace(USUAL, called=b""), (1, 1, 7), "called AE title '' not recognized"),
    "a called title in lower case": (
        replace(USUAL, called=b"cxrtriage"),
        (1, 1, 7),
        "called AE title 'cxrtriage' not recognized",
    ),
    "a called title in Latin-1": (
        replace(USUAL, called=b"CXRTRI\xc4GE"),
        (1, 1, 7),
        "called AE title 'CXRTRI?GE' not recognized",
    ),
    "no context": (replace(USUAL, contexts=b""), (1, 1, 1), "no presentation context is proposed"),
    "a maximum length of 1": (longest(1), (1, 1, 1), "a maximum PDU length of 1 bytes has no room for a message"),
    "a maximum length of 6": (longest(6), (1, 1, 1), "a maximum PDU length of 6 bytes has no room for a message"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_request_that_is_not_accepted_is_rejected_with_its_code_and_recorded(served: Served, name: str) -> None:
    witness, listener = served
    request, codes, reason = REJECTED[name]
    said = answer(listener.port, request.pdu())
    assert (said[0], tuple(said[7:10])) == (RJ, codes)
    rejection = recorded(witness)
    assert (rejection.reason, rejection.address) == (f"association rejected: {reason}", "127.0.0.1")
    assert rejection.calling_ae == request.calling.replace(b"\0", b"").decode()


SAME = context(1, CR, IMPLICIT) + context(1, CR, EXPLICIT)
ABORTED = {
    "the same context id twice": (replace(USUAL, contexts=SAME).pdu(), "presentation context id 1 is there twice"),
    "129 contexts": (
        replace(USUAL, contexts=b"".join(context(n % 256, CR, IMPLICIT) for n in range(1, 259, 2))).pdu(),
        "presentation context id 1 is there twice",
    ),
    "an even context id": (
        replace(USUAL, contexts=context(2, CR, IMPLICIT)).pdu(),
        "presentation context id 2 is not odd",
    ),
    "context id 0": (replace(USUAL, contexts=context(0, CR, IMPLICIT)).pdu(), "presentation context id 0 is not odd"),
    "an item that is cut off": (
        replace(USUAL, more=b"\x20\0\0\xff\1").pdu(),
        "item 0x20 of an association PDU is cut off",
    ),
    "a context of two bytes": (
        replace(USUAL, contexts=item(0x20, b"\1\0")).pdu(),
        "a presentation context item is cut off",
    ),
    "a request of 68 bytes": (
        b"\1\0\0\0\0\x3e" + USUAL.pdu()[6:68],
        "an association request of 68 bytes, which ends before its first item",
    ),
    "a PDU of no kind": (b"\x99\0\0\0\0\4abcd", "the peer sent no association request"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the peer sent no association request"),
    "data before an association": (
        b"\x04\0\0\0\0\x0a\0\0\0\x06\1\2abcd",
        "the peer sent no association request",
    ),
}


@pytest.mark.parametrize("name", ABORTED)
def test_request_that_no_answer_fits_is_aborted_and_recorded(served: Served, name: str) -> None:
    witness, listener = served
    pdu, reason = ABORTED[name]
    assert answer(listener.port, pdu)[:1] == bytes((ABORT,))
    rejection = recorded(witness)
    assert (rejection.reason, rejection.address) == (f"association aborted: {reason}", "127.0.0.1")
    assert rejection.calling_ae == ("MODALITY" if pdu[:1] == b"\1" else "")
    echo(Peer("CXRTRIAGE", "127.0.0.1", listener.port))


def test_a_claim_of_four_gigabytes_is_recorded_before_an_association(served: Served) -> None:
    assert answer(served[1].port, b"\1\0\xff\xff\xff\xff" + USUAL.pdu()[6:]) == b""
    rejection = recorded(served[0])
    assert rejection.reason == "disconnected: the peer claims a PDU of 4294967295 bytes; the maximum is 1048582"


UNUSABLE = {
    "a UID of letters": context(3, b"CR", IMPLICIT),
    "a UID of 65 characters": context(3, b"1." + b"2" * 63, IMPLICIT),
    "no abstract syntax": item(0x20, b"\3\0\0\0" + item(0x40, IMPLICIT)),
    "an empty abstract syntax": context(3, b"", IMPLICIT),
    "no transfer syntax": context(3, CR),
    "an empty transfer syntax": context(3, CR, b""),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_context_that_cannot_be_used_is_rejected_alone(served: Served, name: str) -> None:
    request = replace(USUAL, contexts=ECHO_CONTEXT + UNUSABLE[name] + context(5, CR, b"", EXPLICIT + b"\0"))
    kind, status, acceptance = echoed(served[1].port, request.pdu())
    assert (kind, status) == (AC, Status.SUCCESS)
    assert results(acceptance) == {1: 0, 3: 4 if "transfer" in name else 3, 5: 0}


def test_blank_called_title_is_accepted_where_any_is() -> None:
    with listening(Witness(), check_called_ae=False) as listener:
        assert echoed(listener.port, replace(USUAL, called=b"").pdu())[:2] == (AC, Status.SUCCESS)


@pytest.mark.parametrize("title", [b"MODALITY\0\0\0", b"  MODALITY", b"MODALITY\0\xff"])
def test_allowed_caller_is_recognized_however_its_title_is_padded(title: bytes) -> None:
    witness = Witness()
    with listening(witness, allowed_callers=("MODALITY",)) as listener:
        assert echoed(listener.port, replace(USUAL, calling=title).pdu())[:2] == (AC, Status.SUCCESS)
        assert answer(listener.port, replace(USUAL, calling=b"MODALIT\xdd").pdu())[0] == RJ
    assert recorded(witness).calling_ae == "MODALIT?"


INVALID = {
    "a PDV longer than its PDU": (b"\x04\0\0\0\0\6\0\0\xff\0\1\3", "a presentation data value of 65280 bytes"),
    "a PDV without a header": (b"\x04\0\0\0\0\3\0\0\0", "a presentation data value is cut off in its header"),
    "a command of noise": (b"\x04\0\0\0\0\x0a\0\0\0\6\1\3abcd", "a message that cannot be decoded"),
    "a second association request": (USUAL.pdu(), "a PDU that is not allowed on an established association"),
    "a PDU of no kind": (b"\x99\0\0\0\0\4abcd", "a PDU that is not allowed on an established association"),
}


@pytest.mark.parametrize("name", INVALID)
def test_association_that_is_aborted_for_what_it_sent_is_recorded(served: Served, name: str) -> None:
    witness, listener = served
    association = associated(listener.port)
    pdu, reason = INVALID[name]
    association.dul.socket.socket.sendall(pdu)
    association.join(60)
    assert association.is_aborted
    rejection = recorded(witness)
    assert rejection.reason.startswith(f"association aborted: {reason}")
    assert (rejection.calling_ae, rejection.address) == ("MODALITY", "127.0.0.1")


def test_message_on_a_context_that_was_not_accepted_is_recorded(served: Served) -> None:
    witness, listener = served
    request = replace(USUAL, contexts=context(1, b"1.2.3", IMPLICIT))
    assert echoed(listener.port, request.pdu())[:2] == (AC, -1)
    rejection = recorded(witness)
    assert rejection.reason == "association aborted: a message on presentation context 1, which was not accepted"


@pytest.mark.peer
@pytest.mark.parametrize("calling", ["R\udcd6NTGEN", "MOD\x01A"])
def test_dcmtk_with_such_a_title_is_served(served: Served, calling: str) -> None:
    assert echoscu(served[1].port, calling=calling).exit_code == 0


def test_request_of_a_megabyte_of_items_is_read_at_once() -> None:
    began = time.process_time()
    for more in (b"\x77\0\0\0", b"\0\0\0\0", b"\x50\0\0\x04\x5f\0\0\0"):
        read_association_request(replace(USUAL, more=more * ((1 << 20) // len(more)) + b"\x77\0\0\0").pdu())
    assert time.process_time() - began < 30, "quadratic: it took many minutes"


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_are_read_or_refused_with_a_reason(noise: bytes, position: int) -> None:
    usual = replace(USUAL, contexts=context(1, CR_UID.encode(), IMPLICIT)).pdu()
    for pdu in (usual[:74] + noise, usual[:position] + noise + usual[position + len(noise) :], usual[:position]):
        try:
            request = read_association_request(pdu)
        except MalformedPdu as error:
            assert str(error).isascii()
        else:
            assert request.pdu[74:].isascii() or request.pdu
