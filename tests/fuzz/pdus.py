"""Mutated PDUs against a running listener: it answers or hangs up in time, keeps serving, and keeps its memory.

A case is a conversation of PDUs, one of a few whole ones, mutated: fields, lengths, item types, fragments, data
values, their order, the command set. Its first PDU is sent alone and the answer waited for a moment, then the rest;
then the sending side is closed, and the listener must end the connection, not wait for more.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.dicom_io.images import CR, INSTANCE, data_set_of, dicom_file

Conversation = list[bytes]

_VERIFICATION = "1.2.840.10008.1.1"
_COMMITMENT = "1.2.840.10008.1.20.1"
_EXPLICIT = "1.2.840.10008.1.2.1"
_IMPLICIT = "1.2.840.10008.1.2"
_LENGTHS = (0, 1, 2, 3, 5, 6, 7, 0x7FFF, 0xFFFF, 0xFFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_FIELDS = (
    0x0001,
    0x8001,
    0x0010,
    0x0020,
    0x0021,
    0x0030,
    0x8030,
    0x0100,
    0x0110,
    0x0120,
    0x0130,
    0x0140,
    0x0FFF,
    0x7777,
)
# association, echo and store, on contexts 1, 3 and 5
_ECHO, _STORE, _COMMIT = 1, 3, 5


def conversation(number: int, seed: int) -> Conversation:
    """The case of this number: PDUs to send, in order."""
    chance = random.Random(f"pdu {seed} {number}")
    pdus = chance.choice(_WHOLE)(chance)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        pdus = chance.choice(_MUTATIONS)(pdus, chance)
    return [pdu for pdu in pdus if pdu]


# Whole conversations --------------------------------------------------------------------------------------------------


def _echo(_chance: random.Random) -> Conversation:
    return [_request(), _data(_ECHO, 3, _command(0x0030, sop_class=_VERIFICATION)), _RELEASE]


def _store(chance: random.Random) -> Conversation:
    data_set = data_set_of(dicom_file(Rows=8, Columns=8, PixelData=("OW", bytes(chance.choice((2, 128, 5000))))))
    command = _command(0x0001, sop_class=CR, instance=INSTANCE, with_data=True)
    size = chance.choice((50, 300, 10_000))
    pieces = [data_set[start : start + size] for start in range(0, len(data_set), size)]
    fragments = [_data(_STORE, 0, piece) for piece in pieces[:-1]]
    return [_request(), _data(_STORE, 3, command), *fragments, _data(_STORE, 2, pieces[-1]), _RELEASE]


def _other_service(chance: random.Random) -> Conversation:
    field = chance.choice(_FIELDS)
    command = _command(field, sop_class=chance.choice((CR, _COMMITMENT, "1.2.3")), instance=INSTANCE, with_data=True)
    context = chance.choice((_ECHO, _STORE, _COMMIT, 7, 255))
    return [_request(), _data(context, 3, command), _data(context, 2, data_set_of(dicom_file())), _RELEASE]


def _disorder(chance: random.Random) -> Conversation:
    every = [_request(), _RELEASE, _pdu(6, bytes(4)), _pdu(7, bytes(4)), _pdu(2, bytes(68)), _pdu(3, bytes(4))]
    every += [_data(_STORE, 2, b"abc"), _data(_STORE, 0, b""), _data(_ECHO, 3, _command(0x0030)), _pdu(4, b"")]
    return [_request(), *(chance.choice(every) for _ in range(chance.randrange(1, 6)))]


_WHOLE: tuple[Callable[[random.Random], Conversation], ...] = (_echo, _store, _store, _other_service, _disorder)


# Mutations ------------------------------------------------------------------------------------------------------------


def _flip(pdus: Conversation, chance: random.Random) -> Conversation:
    def flip(pdu: bytes) -> bytes:
        changed = bytearray(pdu)
        for _ in range(chance.choice((1, 1, 2, 6))):
            if changed:
                changed[chance.randrange(min(len(changed), 700))] = chance.choice((0, 1, 255, chance.randrange(256)))
        return bytes(changed)

    return _one(pdus, chance, flip)


def _length(pdus: Conversation, chance: random.Random) -> Conversation:
    """Lie in the PDU's length, or in one of the lengths within."""

    def lie(pdu: bytes) -> bytes:
        if len(pdu) < 12:
            return pdu
        if chance.random() < 0.4:
            return pdu[:2] + struct.pack(">I", chance.choice((*_LENGTHS, len(pdu) - 5, len(pdu) - 7))) + pdu[6:]
        start = chance.randrange(6, min(len(pdu), 400) - 2)
        width = chance.choice((">H", ">I", "<I"))
        value = struct.pack(width, chance.choice(_LENGTHS) & (0xFFFF if width == ">H" else 0xFFFFFFFF))
        return pdu[:start] + value + pdu[start + len(value) :]

    return _one(pdus, chance, lie)


def _kind(pdus: Conversation, chance: random.Random) -> Conversation:
    return _one(pdus, chance, lambda pdu: bytes([chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 255))]) + pdu[1:])


def _cut(pdus: Conversation, chance: random.Random) -> Conversation:
    return _one(pdus, chance, lambda pdu: pdu[: chance.randrange(len(pdu) + 1)])


def _order(pdus: Conversation, chance: random.Random) -> Conversation:
    changed = list(pdus)
    how = chance.randrange(4)
    if how == 0:
        chance.shuffle(changed)
    elif how == 1:
        changed.insert(chance.randrange(len(changed) + 1), chance.choice(changed))
    elif how == 2:
        del changed[chance.randrange(len(changed))]
    else:
        changed += changed[1:] * chance.choice((1, 20))
    return changed


def _data_value(pdus: Conversation, chance: random.Random) -> Conversation:
    """Change a data value's header: its length, context or control byte."""

    def change(pdu: bytes) -> bytes:
        if len(pdu) < 13 or pdu[0] != 4:
            return pdu
        position = chance.choice((9, 10, 10, 11, 11))
        return pdu[:position] + bytes([chance.choice((0, 1, 2, 3, 4, 7, 128, 255))]) + pdu[position + 1 :]

    return _one(pdus, chance, change)


def _command_set(pdus: Conversation, chance: random.Random) -> Conversation:
    """A command with elements left out, doubled, of absurd length or value."""
    fields: dict[str, object] = {
        "sop_class": chance.choice((CR, "", "1" * 64, "1." * 80, "../../tmp/escape", "\xff\xfe", _VERIFICATION)),
        "instance": chance.choice((INSTANCE, "", "../../../../tmp/escape", "9" * 200, "1.2.3\0", "\\")),
        "with_data": chance.choice((True, False)),
        "leave_out": chance.choice(((), (0x0002,), (0x0100,), (0x0110,), (0x0800,), (0x1000,), (0x0000,))),
        "message_id": chance.choice((b"", b"\1", b"\1\0", b"\xff\xff", b"\1\0\2\0", b"x" * 300)),
        "extra": chance.choice((b"", b"\0" * 7, struct.pack("<HHI", 0, 0x0900, 0xFFFFFFFF), b"\xff" * 40)),
    }
    command = _command(chance.choice(_FIELDS), **fields)  # type: ignore[arg-type]
    place = chance.randrange(1, len(pdus) + 1)
    return [*pdus[:place], _data(chance.choice((_ECHO, _STORE, _COMMIT)), 3, command), *pdus[place:]]


def _items(pdus: Conversation, chance: random.Random) -> Conversation:
    """An association request with items too many, too few, of unknown types or with absurd contents."""
    items = _request_items()
    for _ in range(chance.choice((1, 2, 5))):
        how = chance.randrange(5)
        where = chance.randrange(len(items)) if items else 0
        if how == 0 and items:
            del items[where]
        elif how == 1:
            items.insert(where, _item(chance.randrange(256), bytes(chance.randrange(60))))
        elif how == 2 and items:
            items += [items[where]] * chance.choice((1, 130, 300))
        elif how == 3 and items:
            items[where] = bytes([chance.randrange(256)]) + items[where][1:]
        else:
            user = [
                _item(chance.randrange(0x50, 0x5C), bytes(chance.randrange(256) for _ in range(chance.randrange(40))))
            ]
            items.append(_item(0x50, b"".join(user)))
    title = chance.choice((b"CXRTRIAGE", b"", b"\0" * 16, b"A\\B", b"\xff" * 16, b"cxrtriage"))
    return [_request(items, title if chance.random() < 0.3 else b"CXRTRIAGE"), *pdus[1:]]


_MUTATIONS: tuple[Callable[[Conversation, random.Random], Conversation], ...] = (
    *(_flip, _flip, _length, _length, _kind, _cut, _order, _data_value, _data_value, _command_set, _command_set),
    *(_items, _items),
)


def _one(pdus: Conversation, chance: random.Random, change: Callable[[bytes], bytes]) -> Conversation:
    if not pdus:
        return pdus
    # mostly a later one: where the association request is broken already, nothing behind it is looked at
    place = chance.choice((0, *range(len(pdus)), *range(1, len(pdus))))
    return [*pdus[:place], change(pdus[place]), *pdus[place + 1 :]]


# Encoding (PS3.8 9.3, PS3.7 E.1) --------------------------------------------------------------------------------------


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _data(context: int, control: int, fragment: bytes) -> bytes:
    return _pdu(4, struct.pack(">IBB", len(fragment) + 2, context, control) + fragment)


_RELEASE = _pdu(5, bytes(4))


def _request_items() -> list[bytes]:
    contexts = [
        _item(0x20, bytes([number, 0, 0, 0]) + _item(0x30, sop_class.encode()) + syntaxes)
        for number, sop_class, syntaxes in (
            (_ECHO, _VERIFICATION, _item(0x40, _IMPLICIT.encode())),
            (_STORE, CR, _item(0x40, _EXPLICIT.encode()) + _item(0x40, _IMPLICIT.encode())),
            (_COMMIT, _COMMITMENT, _item(0x40, _IMPLICIT.encode())),
        )
    ]
    role = struct.pack(">H", len(_COMMITMENT)) + _COMMITMENT.encode() + b"\1\1"
    user = [
        _item(0x51, struct.pack(">I", 16384)),
        _item(0x52, b"1.2.3.4"),
        _item(0x53, struct.pack(">HH", 1, 1)),
        _item(0x54, role),
        _item(0x55, b"FUZZ"),
        _item(0x58, b"\1\0" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 0)),
    ]
    return [_item(0x10, b"1.2.840.10008.3.1.1.1"), *contexts, _item(0x50, b"".join(user))]


def _request(items: list[bytes] | None = None, called: bytes = b"CXRTRIAGE") -> bytes:
    body = b"".join(_request_items() if items is None else items)
    return _pdu(1, struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), b"FUZZ".ljust(16)) + body)


def _command(
    field: int,
    *,
    sop_class: str = "",
    instance: str = "",
    with_data: bool = False,
    leave_out: tuple[int, ...] = (),
    message_id: bytes = b"\1\0",
    extra: bytes = b"",
) -> bytes:
    elements = {
        0x0002: sop_class.encode("latin-1"),
        0x0100: struct.pack("<H", field),
        0x0110: message_id,
        0x0700: b"\0\0",
        0x0800: struct.pack("<H", 0x0000 if with_data else 0x0101),
        0x1000: instance.encode("latin-1"),
        0x1008: b"\1\0" if field == 0x0130 else b"",
    }
    if field & 0x8000:
        elements[0x0900] = b"\0\0"
        elements[0x0120] = message_id
    encoded = b"".join(
        struct.pack("<HHI", 0, element, len(value) + len(value) % 2) + value + b"\0" * (len(value) % 2)
        for element, value in sorted(elements.items())
        if element not in leave_out and value
    )
    length = b"" if 0 in leave_out else struct.pack("<HHII", 0, 0, 4, len(encoded))
    return length + encoded + extra
