"""The items of association PDUs (PS3.8 9.3) as bytes, read as leniently as the standard asks, and written anew.

pynetdicom 3.0.4 aborts on whatever it does not expect: items of an unknown type, which PS3.8 9.3.1 says to ignore, AE
titles padded with NUL, a version name of other than 1 to 16 characters. So it gets what we read of a PDU, not the PDU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dicom_io.uids import MAXIMUM_LENGTH

ASSOCIATE_RQ, ASSOCIATE_AC = 0x01, 0x02  # PS3.8 Tables 9-11 and 9-17
FIXED = 74  # bytes of either before the variable items
APPLICATION, USER, TRANSFER = 0x10, 0x50, 0x40
_LONGEST_PDU, _CLASS_UID, _ROLE, _VERSION_NAME = 0x51, 0x52, 0x54, 0x55
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
SMALLEST_PDU = 7  # one byte of a message a PDU (PS3.8 9.3.5)
_USUAL_PDU = 16_384  # of a peer that does not say


class MalformedPdu(ValueError):
    """A PDU that violates PS3.8 9.3 so that no answer but an abort is possible; the message says how."""


def title(raw: bytes) -> str:
    """An AE title as a C program reads it, up to its first NUL, without spaces around it (PS3.8 Table 9-11)."""
    return re.sub(rb"[^ -\[\]-~]", b"?", raw.split(b"\0")[0].strip()).decode("ascii")


def items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split into items or sub-items: type, a reserved byte, length, value; trailing zeros are padding."""
    position, end = 0, len(data.rstrip(b"\0"))
    while position < end:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        value = data[position + 4 : position + 4 + length]
        if len(data) < position + 4 or len(value) < length:
            raise MalformedPdu(f"item 0x{data[position]:02X} of an association PDU is cut off")
        yield data[position], value
        position += 4 + length


def item(kind: int, value: bytes) -> bytes:
    """An item or sub-item of at most 65535 bytes."""
    return bytes((kind, 0)) + len(value).to_bytes(2, "big") + value


def uid_of(value: bytes) -> bytes:
    """A UID without the padding that PS3.8 Annex F forbids and some senders write; empty where it is none."""
    value = value.strip(b"\0 ")
    return value if 0 < len(value) <= MAXIMUM_LENGTH and re.fullmatch(rb"[0-9.]+", value) else b""


def user_information(values: Iterable[bytes]) -> tuple[bytes, int]:
    """The user information item anew, and the longest PDU that the peer takes, in bytes; 0: any."""
    longest, found = _USUAL_PDU, []
    for kind, value in (each for information in values for each in items(information)):
        if kind == _LONGEST_PDU and len(value) == 4:
            longest = int.from_bytes(value, "big")
        else:
            found += _user_item(kind, value)
    return item(USER, item(_LONGEST_PDU, longest.to_bytes(4, "big")) + b"".join(found)), longest


def length_fault(longest: int) -> str:
    """Return why a peer that takes PDUs of at most ``longest`` bytes (0: any) can be sent no message; else empty."""
    if 0 < longest < SMALLEST_PDU:
        return f"a maximum PDU length of {longest} bytes has no room for a message"
    return ""


def association_pdu(kind: int, called: bytes, calling: bytes, variable: bytes) -> bytes:
    """An A-ASSOCIATE-RQ or -AC of these items."""
    body = b"\x00\x01\x00\x00" + called.ljust(16) + calling.ljust(16) + bytes(32) + variable
    return bytes((kind, 0)) + len(body).to_bytes(4, "big") + body


def _user_item(kind: int, value: bytes) -> list[bytes]:
    """A user information sub-item anew; none of what this listener does not negotiate (PS3.7 D.3.3)."""
    if kind == _CLASS_UID and uid_of(value):
        return [item(kind, uid_of(value))]
    if kind == _VERSION_NAME and title(value):
        return [item(kind, title(value)[:16].encode("ascii"))]
    if kind == _ROLE and len(value) >= 4:
        length = int.from_bytes(value[:2], "big")
        sop_class, roles = uid_of(value[2 : 2 + length]), value[2 + length : 4 + length]
        if sop_class and len(roles) == 2 and max(roles) <= 1:
            return [item(kind, len(sop_class).to_bytes(2, "big") + sop_class + roles)]
    return []
