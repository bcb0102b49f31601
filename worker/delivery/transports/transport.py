"""The protocol of a transport: objects in, what became of each out; it keeps no queue and repeats nothing."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


class DestinationUnreachable(Exception):
    """No connection to the destination can be had now, through no fault of any object."""


@dataclass(frozen=True)
class Item:
    """One object to send; ``key`` is the caller's and comes back with the outcome."""

    key: str
    path: Path


@dataclass(frozen=True)
class SendOutcome:
    """What became of one object: stored, to be tried again, or refused for good.

    Attributes
    ----------
    reason
        In words for people; of a stored object, a warning if there was one.
    status
        As the destination gave it, in the numbers of its protocol; None where it gave none.
    """

    key: str
    result: Literal["stored", "retry", "permanent"]
    reason: str
    status: int | None = None


class Transport(Protocol):
    """A way to one destination; used by one thread."""

    def send(self, items: Sequence[Item]) -> Generator[SendOutcome]:
        """Send objects one after the other.

        The caller may stop between two outcomes by closing the generator; what is still open then is not offered.

        Yields
        ------
        SendOutcome
            One for each item; an item without an outcome was not offered.

        Raises
        ------
        DestinationUnreachable
            On the first step.
        """

    def close(self) -> None:
        """End what is kept open between two calls of `send`."""
