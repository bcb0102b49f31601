"""An A-ASSOCIATE-RQ PDU (PS3.8 9.3.2), read as leniently as the standard asks, and written anew for pynetdicom.

pynetdicom 3.0.4 aborts on whatever it does not expect: items of an unknown type, which PS3.8 9.3.1 says to ignore, a
protocol version with further bits, AE titles padded with NUL, an empty implementation version name. Only what this
listener uses is passed on; what cannot be accepted has a reason, with the sender's AE titles wherever they were read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dicom_io.uids import MAXIMUM_LENGTH

ASSOCIATE_RQ, ASSOCIATE_AC = 0x01, 0x02  # PS3.8 Tables 9-11 and 9-17
_FIXED = 74  # bytes before the variable items
_APPLICATION, _CONTEXT, _USER = 0x10, 0x20, 0x50
_ABSTRACT, _TRANSFER = 0x30, 0x40
_MAXIMUM_LENGTH, _CLASS_UID, _ROLE, _VERSION_NAME = 0x51, 0x52, 0x54, 0x55
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
_NO_SYNTAX = b"2.25.0"  # stands for one that cannot be read, so that its context alone is rejected
_SMALLEST_PDU = 7  # one byte of a message a PDU (PS3.8 9.3.5)
_USUAL_PDU = 16_384

# A-ASSOCIATE-RJ: result, source, reason (PS3.8 Table 9-21)
_NO_REASON, _APPLICATION_CONTEXT_NAME, _CALLING_TITLE, _PROTOCOL_VERSION = (1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 2)


class MalformedPdu(ValueError):
    """A PDU that violates PS3.8 9.3 so that no answer but an abort is possible; the message says how."""


@dataclass(frozen=True)
class Refusal:
    """Why an association is rejected, and the three codes of its A-ASSOCIATE-RJ."""

    codes: tuple[int, int, int]
    reason: str


@dataclass(frozen=True)
class AssociationRequest:
    """A request to associate.

    Attributes
    ----------
    calling, called
        AE titles without padding; what is not a character of an AE title is shown as ``?``. Empty where blank.
    echoed
        The 64 bytes of titles and reserved fields that the acceptance repeats (PS3.8 Table 9-17).
    pdu
        The same request as pynetdicom decodes it.
    refusal
        Why it is rejected; None where nothing in it speaks against it.
    """

    calling: str
    called: str
    echoed: bytes
    pdu: bytes
    refusal: Refusal | None


def titles(pdu: bytes) -> tuple[str, str]:
    """Calling and called AE title of a PDU, as far as it holds them."""
    return _title(pdu[26:42]), _title(pdu[10:26])


def read_association_request(pdu: bytes) -> AssociationRequest:
    """Read an A-ASSOCIATE-RQ PDU.

    Raises
    ------
    MalformedPdu
        If its items cannot be told apart, or its presentation contexts not be answered.
    """
    if len(pdu) < _FIXED:
        raise MalformedPdu(f"an association request of {len(pdu)} bytes, which ends before its first item")
    calling, called = titles(pdu)
    application = b""
    contexts: dict[int, bytes] = {}
    user: list[bytes] = []
    smallest = _USUAL_PDU
    for kind, value in _items(pdu[_FIXED:]):
        if kind == _APPLICATION:
            application = application or value.strip(b"\0 ")
        elif kind == _CONTEXT:
            number, context = _context(value)
            if number in contexts:  # the data of which of them?
                raise MalformedPdu(f"presentation context id {number} is there twice")
            contexts[number] = context
        elif kind == _USER:
            for sub_kind, sub in _items(value):
                if sub_kind == _MAXIMUM_LENGTH and len(sub) == 4:
                    smallest = int.from_bytes(sub, "big")
                else:
                    user += _user_item(sub_kind, sub)
    user.insert(0, _item(_MAXIMUM_LENGTH, smallest.to_bytes(4, "big")))
    body = b"".join(
        (
            b"\x00\x01\x00\x00",
            *((each or "?").ljust(16).encode("ascii") for each in (called, calling)),
            bytes(32),
            _item(_APPLICATION, _APPLICATION_CONTEXT),
            *contexts.values(),
            _item(_USER, b"".join(user)),
        )
    )
    return AssociationRequest(
        calling=calling,
        called=called,
        echoed=pdu[10:_FIXED],
        pdu=bytes((ASSOCIATE_RQ, 0)) + len(body).to_bytes(4, "big") + body,
        refusal=_refusal(int.from_bytes(pdu[6:8], "big"), calling, application, len(contexts), smallest),
    )


def _refusal(version: int, calling: str, application: bytes, contexts: int, smallest: int) -> Refusal | None:
    if not version & 1:  # PS3.8 Table 9-11: only bit 0 is tested
        return Refusal(_PROTOCOL_VERSION, f"protocol version 0x{version:04X} does not include version 1")
    if application != _APPLICATION_CONTEXT:
        return Refusal(_APPLICATION_CONTEXT_NAME, "application context name is not that of DICOM")
    if not calling:
        return Refusal(_CALLING_TITLE, "calling AE title is blank")
    if not contexts:
        return Refusal(_NO_REASON, "no presentation context is proposed")
    if 0 < smallest < _SMALLEST_PDU:
        return Refusal(_NO_REASON, f"a maximum PDU length of {smallest} bytes has no room for a message")
    return None


def _title(raw: bytes) -> str:
    """An AE title as a C program reads it, up to its first NUL, without spaces around it (PS3.8 Table 9-11)."""
    return re.sub(rb"[^ -\[\]-~]", b"?", raw.split(b"\0")[0].strip()).decode("ascii")


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split into items or sub-items: type, a reserved byte, length, value; trailing zeros are padding."""
    position = 0
    while data[position:].strip(b"\0"):
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        value = data[position + 4 : position + 4 + length]
        if len(data) < position + 4 or len(value) < length:
            raise MalformedPdu(f"item 0x{data[position]:02X} of the association request is cut off")
        yield data[position], value
        position += 4 + length


def _item(kind: int, value: bytes) -> bytes:
    return bytes((kind, 0)) + len(value).to_bytes(2, "big") + value


def _uid(value: bytes) -> bytes:
    """A UID without the padding that PS3.8 Annex F forbids and some senders write; empty where it is none."""
    value = value.strip(b"\0 ")
    return value if 0 < len(value) <= MAXIMUM_LENGTH and re.fullmatch(rb"[0-9.]+", value) else b""


def _context(value: bytes) -> tuple[int, bytes]:
    """A presentation context item (PS3.8 9.3.2.2): its id, and the item anew."""
    if len(value) < 4:
        raise MalformedPdu("a presentation context item is cut off")
    number = value[0]
    if number % 2 == 0:
        raise MalformedPdu(f"presentation context id {number} is not odd")
    abstract, transfer = b"", []
    for kind, sub in _items(value[4:]):
        if kind == _ABSTRACT:
            abstract = abstract or _uid(sub)
        elif kind == _TRANSFER and _uid(sub):
            transfer.append(_uid(sub))
    syntaxes = [
        _item(_ABSTRACT, abstract or _NO_SYNTAX),
        *(_item(_TRANSFER, each) for each in transfer or [_NO_SYNTAX]),
    ]
    return number, _item(_CONTEXT, bytes((number, 0, 0, 0)) + b"".join(syntaxes))


def _user_item(kind: int, value: bytes) -> list[bytes]:
    """A user information sub-item anew; none of what this listener does not negotiate (PS3.7 D.3.3)."""
    if kind == _CLASS_UID and _uid(value):
        return [_item(kind, _uid(value))]
    if kind == _VERSION_NAME and _title(value):
        return [_item(kind, _title(value)[:16].encode("ascii"))]
    if kind == _ROLE and len(value) >= 4:
        length = int.from_bytes(value[:2], "big")
        sop_class, roles = _uid(value[2 : 2 + length]), value[2 + length : 4 + length]
        if sop_class and len(roles) == 2 and max(roles) <= 1:
            return [_item(kind, len(sop_class).to_bytes(2, "big") + sop_class + roles)]
    return []
