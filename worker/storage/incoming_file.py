"""An object on its way into the store: written and hashed while it arrives, so that little is left to do at its end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Literal

_SLICE = 1 << 18  # bytes: still in the processor's cache when they are hashed, and no huge page for the kernel to find
_SMALL = 1 << 15  # bytes: less is gathered first, so that small PDUs cost no system call each
_LOOK_EVERY = 1 << 23  # bytes after which the room is asked for again


class Arriving:
    """A file under a temporary name, until it is moved into its place or discarded. One thread at a time uses it.

    Writing never fails: `problem` tells what went wrong, and what follows is only hashed.

    Parameters
    ----------
    path
        The temporary name; nothing may be there yet.
    room
        Says in words why there is no room for more; empty where there is.

    Attributes
    ----------
    problem
        Why not all of it is in the file, in words; empty where it is.
    """

    def __init__(self, path: Path, room: Callable[[], str] = lambda: "") -> None:
        self.problem = ""
        self._path = path
        self._room = room
        self._sha256 = hashlib.sha256()
        self._size = self._looked_at = 0
        self._gathered = bytearray()
        self._file: FileIO | None = None
        self._is_temporary = False
        try:
            self._file = FileIO(path, "x+")
            self._is_temporary = True
        except OSError as error:
            self._give_up(error.strerror or str(error))
        self._look()

    def __len__(self) -> int:
        return self._size

    def __del__(self) -> None:
        self.discard()

    def write(self, piece: bytes | memoryview) -> None:
        """Add to the end."""
        self._size += len(piece)
        if len(self._gathered) + len(piece) < _SMALL:
            self._gathered += piece
            return
        self._flush()
        view = memoryview(piece)
        for start in range(0, len(view), _SLICE):
            self._put(view[start : start + _SLICE])
        if self._size - self._looked_at >= _LOOK_EVERY:
            self._look()

    def digest(self) -> str:
        """Return the SHA-256 of all that was written, in hexadecimal."""
        self._flush()
        return self._sha256.hexdigest()

    def sync(self) -> None:
        """Make the bytes durable. OSError."""
        os.fsync(self._whole().fileno())

    def read(self, position: int, count: int) -> bytes:
        """Read bytes that were written, wherever the file is now. OSError."""
        return os.pread(self._whole().fileno(), count, position)

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open what was written, at its beginning. OSError."""
        handle = os.fdopen(os.dup(self._whole().fileno()), mode)
        handle.seek(0)
        return handle

    def move(self, target: Path) -> None:
        """Give the file its name for good. OSError."""
        self._path.rename(target)
        self._is_temporary = False

    def discard(self) -> None:
        """Close the file, and remove it where it has no name for good; what fails to be removed is a leftover."""
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                file.close()
            if self._is_temporary:
                self._is_temporary = False
                self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._put(memoryview(gathered))

    def _put(self, view: memoryview) -> None:
        self._sha256.update(view)
        try:
            while view and self._file is not None:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def _look(self) -> None:
        self._looked_at = self._size
        if self._file is not None and (reason := self._room()):
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        """Free at once what it took; the sender must still be heard out before it can be answered."""
        self.problem = reason
        self.discard()

    def _whole(self) -> FileIO:
        self._flush()
        if self._file is None or self.problem:
            raise OSError(self.problem or "the file was discarded")
        return self._file
