"""Mutations of DICOM files: each takes bytes and a random generator, and gives the same other bytes for a seed."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from io import BytesIO

from pydicom import config, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_io.header.parsing import PARSING_ERRORS

_NUMBERS = (0, 1, 2, 7, 8, 255, 256, 32767, 32768, 65534, 65535)
_LENGTHS = (0, 1, 2, 3, 6, 8, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, 0x80000000)
_VRS = (
    b"OB",
    b"OW",
    b"SQ",
    b"UN",
    b"US",
    b"SS",
    b"DS",
    b"IS",
    b"PN",
    b"UI",
    b"UT",
    b"AT",
    b"FD",
    b"OF",
    b"\0\0",
    b"??",
)
_TEXTS = (
    *(
        b"",
        b"\\",
        b"\\\\\\",
        b"\0",
        b"../../../../tmp/escape",
        b"1.2.3\0/etc/passwd",
        b"9" * 64,
        b"-1",
        b"1e309",
        b"nan",
    ),
    *(
        b"\x1b$B\x1b(J",
        b"ISO 2022 IR 87",
        b"\\ISO 2022 IR 87\\ISO 2022 IR 13",
        b"99999999",
        b"00000000",
        b"999Y",
        b"nan",
    ),
    *(b"\xff\xfe\x00\xd8", b"^^^^=^^^^=^^^^", b"a" * 20_000, b"%s%n%x", b"<script>", b"' OR 1=1 --"),
)
_LYING = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
_DEPTH = 40


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Apply one to four mutations."""
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        data = chance.choice(_MUTATIONS)(data, chance) or b"\0"
    return data


def _flip_bytes(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        changed[_position(data, chance)] = chance.choice((0, 0xFF, 0x7F, 0x80, chance.randrange(256)))
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: _position(data, chance)]


def _remove(data: bytes, chance: random.Random) -> bytes:
    start = _position(data, chance)
    return data[:start] + data[start + chance.choice((1, 2, 4, 8, 100)) :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start = _position(data, chance)
    piece = data[start : start + chance.choice((1, 8, 64, 500))]
    return data[:start] + piece * chance.choice((2, 3, 200)) + data[start:]


def _splice(data: bytes, chance: random.Random) -> bytes:
    start, other = _position(data, chance), _position(data, chance)
    return data[:start] + data[other : other + 400] + data[start:]


def _number(data: bytes, chance: random.Random) -> bytes:
    """Overwrite two or four bytes by a number at a limit, in either order: lengths, offsets, counts."""
    start = _position(data, chance)
    order = chance.choice("<>")
    if chance.random() < 0.5:
        value = struct.pack(order + "H", chance.choice(_NUMBERS))
    else:
        value = struct.pack(order + "I", chance.choice(_LENGTHS))
    return data[:start] + value + data[start + len(value) :]


def _vr(data: bytes, chance: random.Random) -> bytes:
    found = [match.start() for match in re.finditer(rb"(?<=[\x00-\xff]{4})(?:[A-Z]{2})", data[:20_000])]
    if not found:
        return _flip_bytes(data, chance)
    start = chance.choice(found)
    return data[:start] + chance.choice(_VRS) + data[start + 2 :]


def _marker(data: bytes, chance: random.Random) -> bytes:
    """Change what follows a codestream's marker or an item's tag: segments, fragments, offset tables."""
    found = [match.start() for match in re.finditer(rb"\xff[\x4f-\xff]|\xfe\xff\x00\xe0|\xfe\xff\xdd\xe0", data)]
    if not found:
        return _number(data, chance)
    start = chance.choice(found) + chance.choice((1, 2, 3, 4, 5, 6, 8, 10))
    return data[:start] + bytes([chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))]) + data[start + 1 :]


def _attribute(data: bytes, chance: random.Random) -> bytes:
    """Give an attribute, perhaps of the file meta, a value that no modality would write."""

    def change(dataset: Dataset) -> None:
        holder = dataset.file_meta if chance.random() < 0.15 and hasattr(dataset, "file_meta") else dataset
        tags = [tag for tag in holder.keys() if tag != 0x7FE00010]  # noqa: SIM118  (values must stay raw)
        if not tags:
            return
        tag = chance.choice(sorted(tags))
        value = chance.choice(_TEXTS)
        value += b" " * (len(value) % 2)
        old = holder.get_item(tag)
        vr = "UN" if old is None or old.VR in {None, "SQ"} else str(old.VR)
        holder[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True, True)

    return _rewritten(data, change)


def _lie(data: bytes, chance: random.Random) -> bytes:
    """Lie about the pixels."""

    def change(dataset: Dataset) -> None:
        for keyword in chance.sample(_LYING, chance.choice((1, 1, 2, 3))):
            value = chance.choice(_NUMBERS)
            dataset.add(DataElement(Tag(keyword), "US", value, validation_mode=config.IGNORE))

    return _rewritten(data, change)


def _nest(data: bytes, chance: random.Random) -> bytes:
    """Nest sequences deeply, or widely, or where none belongs."""

    def change(dataset: Dataset) -> None:
        inner = Dataset()
        inner.CodeValue = "1"
        for depth in range(chance.choice((1, 5, _DEPTH))):
            outer = Dataset()
            width = chance.choice((1, 2)) if depth < 4 else 1
            outer.add(DataElement(0x00081140, "SQ", Sequence([inner] * width)))
            outer[0x00081140].is_undefined_length = chance.random() < 0.5
            inner = outer if chance.random() < 0.9 else inner
        tag = chance.choice((0x00082218, 0x00400555, 0x0018A001, 0x00283010, 0x00283000, 0x00100010))
        dataset.add(DataElement(Tag(tag), "SQ", Sequence([inner]), validation_mode=config.IGNORE))

    return _rewritten(data, change)


def _rewritten(data: bytes, change: Callable[[Dataset], None]) -> bytes:
    """Parse, change, write; what cannot be parsed or written any more stays as it is."""
    buffer = BytesIO()
    try:
        dataset = dcmread(BytesIO(data), force=True)
        change(dataset)
        dcmwrite(buffer, dataset)
    except (*PARSING_ERRORS, OSError, BytesLengthException):
        return data
    return buffer.getvalue()


def _position(data: bytes, chance: random.Random) -> int:
    """Somewhere; mostly in the header, where a byte means most."""
    return chance.randrange(min(len(data), chance.choice((400, 1500, 4000, len(data)))) or 1)


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip_bytes, _flip_bytes, _cut, _remove, _repeat, _splice, _number, _number, _vr, _marker, _marker),
    *(_attribute, _attribute, _lie, _lie, _nest),
)
