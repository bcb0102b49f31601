"""A received data set before anything is decided about it: its file, its identifiers, and who sent it."""

from __future__ import annotations

from typing import BinaryIO, Literal, Protocol


class Incoming(Protocol):
    """A file that is put down while it arrives. Who began it discards it in any case; what was kept then stays."""

    @property
    def problem(self) -> str:
        """Why it could not be put down, in words; empty where it could. What is written after that is dropped."""

    def __len__(self) -> int: ...

    def write(self, piece: bytes | memoryview) -> None:
        """Add to the end; never fails. The piece is not used after the call."""

    def read(self, position: int, count: int) -> bytes:
        """Read from what was written, fewer bytes at its end. OSError."""

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open what was written, at its beginning. OSError."""

    def discard(self) -> None:
        """Let go of it."""
