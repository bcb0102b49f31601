"""The parts of a multipart/related body, one after another as they arrive: a part is held in memory, never the body."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_LONGEST_HEADERS = 16_384  # bytes a part; a media type and a location have some hundred


class BadMultipart(Exception):
    """The body is not the multipart message that it claims to be; the message says why, without a byte of it."""


@dataclass(frozen=True)
class Part:
    """One part. ``data`` is None where it was larger than is held, or where there was no room for it."""

    media_type: str
    data: bytes | None
    size: int


class Room:
    """How many bytes all requests together may hold; used from one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, size: int) -> bool:
        """Take room for so many bytes; False where there is none."""
        if self._held + size > self._most:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        self._held -= size


class Parts:
    """Takes a body in pieces of any length and gives its parts.

    Parameters
    ----------
    boundary
        Of the multipart message (RFC 2046 5.1.1).
    largest
        Most bytes of one part; a larger one is read through and dropped.
    room
        What this body shares with others.
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

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body. `BadMultipart`."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BadMultipart(f"not a multipart message ({type(error).__name__})") from error

    def next(self) -> Part | None:
        """Return the next part that is complete; its room is the caller's until `done`."""
        return self._finished.popleft() if self._finished else None

    def done(self, part: Part) -> None:
        """Give back the room of a part that is no longer held."""
        if part.data is not None:
            self._release(len(part.data))

    def close(self) -> None:
        """Give back all room."""
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
        if self._dropped:
            return
        if self._size > self._largest or not self._room.take(size):
            self._dropped = True
            self._release(len(self._data))
            self._data = bytearray()
            return
        self._held += size
        self._data += data[start:end]

    def _end(self) -> None:
        data = None if self._dropped else bytes(self._data)
        self._data = bytearray()
        self._finished.append(Part(self._media_type, data, self._size))

    def _whole(self) -> None:
        self.is_whole = True


def media_type(value: str) -> Message:
    """Parse a Content-Type value: ``get_content_type()``, ``get_param(name)``, ``get_boundary()`` (RFC 2045 5.1).

    What cannot be parsed is of type text/plain.
    """
    message = Message()
    message["content-type"] = value
    try:
        message.get_params()
    except (TypeError, ValueError, LookupError):  # what email makes of continued parameters (RFC 2231) that are none
        return Message()
    return message
