"""Checks that an encoded data set is complete, by a walk over its element headers that decodes no value.

A parser returns a truncated value without an error; so an object is checked before it is acknowledged.
"""

import struct
import zlib
from io import BytesIO

from pydicom.datadict import dictionary_has_tag
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from dicom_io.header.incoming_file import IncomingFile
from dicom_io.header.parsing import UnreadableDicom, element_name, inflated_length, one_inflated

_VRS = {vr.encode() for vr in STANDARD_VR}
_LONG_VRS = {vr.encode() for vr in EXPLICIT_VR_LENGTH_32}
_UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_ITEM_END = (0xFFFE, 0xE00D)
_SEQUENCE_END = (0xFFFE, 0xE0DD)
_PIXEL_DATA = (0x7FE0, 0x0010)
_DEEPEST_NESTING = 32
# A radiograph has about a hundred. Each costs microseconds here and in the parser; 256 MiB hold 32 million empty ones.
_MOST_ELEMENTS = 100_000


class FileSlice:
    """The bytes of a file from `start` on, read only as they are accessed: a walk skips the pixels."""

    def __init__(self, file: IncomingFile, start: int, block_size: int = 1 << 12) -> None:
        self._file = file
        self._start = start
        self._block_size = block_size
        self._block, self._at = b"", 0

    def __len__(self) -> int:
        return len(self._file) - self._start

    def __getitem__(self, part: slice) -> bytes:
        """Read the bytes of a slice without a step, fewer at the end. OSError."""
        start, stop, _ = part.indices(len(self))
        if stop - start > self._block_size:
            return self._file.read(self._start + start, stop - start)
        if not self._at <= start <= stop <= self._at + len(self._block):
            self._block, self._at = self._file.read(self._start + start, self._block_size), start
        return self._block[start - self._at : max(start, stop) - self._at]


def check_complete(data: bytes | FileSlice, transfer_syntax_uid: str) -> None:
    """Check that every element of a data set (without preamble and file meta) ends within it.

    Raises
    ------
    UnreadableDicom
        Naming the tag that is cut off, the bytes it claims and the bytes there are.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        with one_inflated():
            _check(_inflate(data[:]), str(ExplicitVRLittleEndian))
    else:
        _check(data, transfer_syntax_uid)


def _check(data: bytes | FileSlice, transfer_syntax_uid: str) -> None:
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
    if not data:
        raise UnreadableDicom("the data set is empty")
    walk = _Walk(data, implicit, order)
    try:
        walk.data_set(0, len(data), nested=False, depth=0)
    except UnreadableDicom as error:
        if not walk.unknown_vr:
            raise
        raise UnreadableDicom(f"{error.reason}; before it, {walk.unknown_vr}") from error


def _inflate(data: bytes) -> bytes:
    try:
        # with the exact size, no pieces are held a second time to be joined
        return zlib.decompress(data, -zlib.MAX_WBITS, max(1, inflated_length(BytesIO(data))))
    except zlib.error as error:
        raise UnreadableDicom("the deflated data set cannot be inflated: damaged or truncated") from error


class _Walk:
    """One pass over one data set; each method returns the position after what it checked."""

    def __init__(self, data: bytes | FileSlice, implicit: bool, order: str) -> None:
        self.data = data
        self.implicit = implicit
        self.tag = struct.Struct(order + "HH")
        self.short = struct.Struct(order + "H")
        self.long = struct.Struct(order + "I")
        self.elements = 0
        self.unknown_vr = ""  # the first element with one
        self.last = (0, 0)  # the element before

    def data_set(self, position: int, end: int, *, nested: bool, depth: int) -> int:
        if depth > _DEEPEST_NESTING:
            raise UnreadableDicom(f"sequences are nested more than {_DEEPEST_NESTING} deep")
        while position < end:
            if end - position < 8:
                if any(self.data[position:end]):
                    raise UnreadableDicom(f"data set truncated: {end - position} bytes left for an element's header")
                return end
            tag = self._tag(position)
            if nested and tag == _ITEM_END:
                return position + 8
            position = self._element(tag, position, end, depth)
        if nested:
            raise UnreadableDicom("data set truncated: an item of undefined length does not end")
        return position

    def _element(self, tag: tuple[int, int], position: int, end: int, depth: int) -> int:
        vr, length, position = self._header(tag, position, end)
        if length != _UNDEFINED:
            if length > end - position:
                raise UnreadableDicom(
                    f"data set truncated: ({tag[0]:04X},{tag[1]:04X}) has {end - position} of {length} bytes"
                )
            return position + length
        if tag == _PIXEL_DATA:
            return self._items(position, end, depth, encapsulated=True)
        if vr == b"UN":  # an unknown sequence is encoded as implicit VR little endian (PS3.5 6.2.2)
            inner = _Walk(self.data, True, "<")
            inner.elements = self.elements
            position = inner._items(position, end, depth, encapsulated=False)
            self.elements = inner.elements
            return position
        return self._items(position, end, depth, encapsulated=False)

    def _header(self, tag: tuple[int, int], position: int, end: int) -> tuple[bytes, int, int]:
        self._count()
        vr = b"" if self.implicit else self.data[position + 4 : position + 6]
        if self.implicit or tag[0] == 0xFFFE:
            return vr, self._long(position + 4), position + 8
        if vr not in _VRS:
            self._unknown_vr(tag, vr)
        self.last = tag
        if vr not in _LONG_VRS:
            return vr, self.short.unpack(self.data[position + 6 : position + 8])[0], position + 8
        if end - position < 12:
            raise UnreadableDicom(f"data set truncated in the header of ({tag[0]:04X},{tag[1]:04X})")
        return vr, self._long(position + 8), position + 12

    def _unknown_vr(self, tag: tuple[int, int], vr: bytes) -> None:
        """Refuse an element whose VR is none: DCMTK takes 2 bytes after it for the length, pydicom the VR and 2 bytes.

        Others that do not exist are read alike by all, and named if the data set then does not end.
        """
        number = BaseTag(tag[0] << 16 | tag[1])
        if tag[0] and (number.is_private or dictionary_has_tag(number)):  # else these bytes are hardly an element
            letters = vr.decode("latin-1")
            shown = f"'{letters}'" if vr.isascii() and letters.isprintable() and b"\\" not in vr else f"0x{vr.hex()}"
            named = f"{element_name(number)} has the VR {shown}"
            if tag[0] < _PIXEL_DATA[0] and not b"AA" <= vr <= b"ZZ":
                before = element_name(BaseTag(self.last[0] << 16 | self.last[1]))
                # elements ascend (PS3.5 7.1), so that these bytes are hardly one
                where = f", or the length of {before} is wrong" if tag < self.last else ""
                raise UnreadableDicom(f"{named}, which does not exist{where}")
            self.unknown_vr = self.unknown_vr or named

    def _items(self, position: int, end: int, depth: int, *, encapsulated: bool) -> int:
        while end - position >= 8:
            tag = self._tag(position)
            length = self._long(position + 4)
            position += 8
            self._count()
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise UnreadableDicom(f"({tag[0]:04X},{tag[1]:04X}) stands where an item should begin")
            if length == _UNDEFINED and not encapsulated:
                position = self.data_set(position, end, nested=True, depth=depth + 1)
            elif length > end - position:
                raise UnreadableDicom(f"data set truncated: an item has {end - position} of {length} bytes")
            else:
                position += length
        if encapsulated and position == end:
            return end  # only the delimiter is missing, every fragment is complete
        raise UnreadableDicom("data set truncated: a sequence of undefined length does not end")

    def _count(self) -> None:
        self.elements += 1
        if self.elements > _MOST_ELEMENTS:
            raise UnreadableDicom(f"the data set has more than {_MOST_ELEMENTS} elements and items")

    def _tag(self, position: int) -> tuple[int, int]:
        group, element = self.tag.unpack(self.data[position : position + 4])
        return group, element

    def _long(self, position: int) -> int:
        return int(self.long.unpack(self.data[position : position + 4])[0])
