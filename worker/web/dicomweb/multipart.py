"""Streams the parts of a multipart/related body (parsed by python-multipart); only one part is held in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_LONGEST_HEADERS = 16_384  # bytes per part; usual headers take a few hundred
_LONGEST_PREAMBLE = 65_536  # bytes before the first boundary


class BadMultipart(Exception):
    """The body is not a valid multipart message; the error message quotes none of it."""


@dataclass(frozen=True)
class Part:
    """One part. ``data`` is None if it was larger than the limit, or if memory was short."""

    media_type: str
    data: bytes | None
    size: int


class Room:
    """The bytes that all requests together may hold in memory; for use in one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, size: int) -> bool:
        """Reserve ``size`` bytes; False if they are not available."""
        if self._held + size > self._most:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        self._held -= size


class Parts:
    """Splits a body, fed in pieces of any length, into its parts.

    Parameters
    ----------
    boundary
        Of the multipart message (RFC 2046 5.1.1).
    largest
        Limit of one part in bytes; a larger part is skipped.
    room
        The memory budget that all bodies share.
    """

    def __init__(self, boundary: str, largest: int, room: Room) -> None:
        self._largest = largest
        self._room = room
        self._finished: deque[Part] = deque()
        self._data = bytearray()
        self._held = 0
        self._size = 0
        self._dropped = False
        self._name, self._value, self._header_bytes = bytearray(), bytearray(), 0
        self._media_type = ""
        self._is_preamble = True
        self.is_whole = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_begin": self._begin_header,
            "on_header_field": lambda data, start, end: self._header(self._name, data[start:end]),
            "on_header_value": lambda data, start, end: self._header(self._value, data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": self._more,
            "on_part_end": self._end,
            "on_end": self._whole,
        }
        try:
            self._parser = MultipartParser(boundary.encode("latin-1"), callbacks)
        except (FormParserError, UnicodeEncodeError) as error:
            raise BadMultipart(f"the boundary cannot be used ({type(error).__name__})") from error
        # The parser knows a preamble (RFC 2046 5.1.1) nowhere but between two boundaries, nor padding after the first
        # one: so the body begins in a part of its own, which is dropped.
        self._parser.write(b"--" + boundary.encode("latin-1") + b"\r\n\r\n\r\n")

    def feed(self, piece: bytes) -> None:
        """Parse the next bytes of the body. `BadMultipart`."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BadMultipart(f"not a multipart message ({type(error).__name__})") from error

    @property
    def fault(self) -> str:
        """What a body that ended here lacks; empty where it is whole."""
        if self.is_whole:
            return ""
        if self._is_preamble:
            return "the body has no line that is the content type's boundary and ends with CR LF"
        return "the body ends before its last boundary"

    def next(self) -> Part | None:
        """Return the next complete part, or None; its memory stays reserved until `done`."""
        return self._finished.popleft() if self._finished else None

    def done(self, part: Part) -> None:
        """Release the memory of a part."""
        if part.data is not None:
            self._release(len(part.data))

    def close(self) -> None:
        """Release all memory."""
        self._finished.clear()
        self._release(self._held)

    def _release(self, size: int) -> None:
        self._room.give_back(size)
        self._held -= size

    def _begin(self) -> None:
        self._data, self._size, self._dropped = bytearray(), 0, False
        self._media_type, self._header_bytes = "", 0

    def _begin_header(self) -> None:
        self._name, self._value = bytearray(), bytearray()

    def _header(self, into: bytearray, more: bytes) -> None:
        self._header_bytes += len(more)
        if self._header_bytes > _LONGEST_HEADERS:
            raise BadMultipart(f"a part has more than {_LONGEST_HEADERS} bytes of headers")
        into += more

    def _end_header(self) -> None:
        if self._name.strip().lower() == b"content-type":
            self._media_type = self._value.decode("latin-1").strip()

    def _more(self, data: bytes, start: int, end: int) -> None:
        size = end - start
        self._size += size
        if self._is_preamble and self._size > _LONGEST_PREAMBLE:
            raise BadMultipart(f"more than {_LONGEST_PREAMBLE} bytes before the first boundary")
        if self._dropped or self._is_preamble:
            return
        if self._size > self._largest or not self._room.take(size):
            self._dropped = True
            self._release(len(self._data))
            self._data = bytearray()
            return
        self._held += size
        self._data += data[start:end]

    def _end(self) -> None:
        if self._is_preamble:
            self._is_preamble = False
            return
        data = None if self._dropped else bytes(self._data)
        self._data = bytearray()
        self._finished.append(Part(self._media_type, data, self._size))

    def _whole(self) -> None:
        self.is_whole = True


def media_type(value: str) -> Message:
    """Parse a Content-Type value: ``get_content_type()``, ``get_param(name)``, ``get_boundary()`` (RFC 2045 5.1).

    A value that cannot be parsed becomes text/plain.
    """
    message = Message()
    message["content-type"] = value
    try:
        message.get_params()
    except (
        TypeError,
        ValueError,
        LookupError,
    ):  # raised by the email package on broken parameter continuations (RFC 2231)
        return Message()
    return message
