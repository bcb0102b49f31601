"""The file that a received object is written to, as the listener uses it."""

from __future__ import annotations

from typing import BinaryIO, Literal, Protocol


class IncomingFile(Protocol):
    """A file written while its object is received. The listener discards it in any case; a file that was kept stays."""

    @property
    def problem(self) -> str:
        """Why it could not be written, empty where it could; what is written after a problem is dropped."""

    def __len__(self) -> int: ...

    def write(self, piece: bytes | memoryview) -> None:
        """Append; never raises. The piece is not used after the call."""

    def read(self, position: int, count: int) -> bytes:
        """Read `count` bytes from `position`, fewer at the end. OSError."""

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open it at its beginning. OSError."""

    def discard(self) -> None:
        """Delete it, unless it was kept."""
