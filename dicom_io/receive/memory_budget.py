"""A bound over what all associations together hold, in files or in memory, for requests that are not answered yet.

One bound for each association would not do: fifty of them times the largest object is more than a machine has.
"""

import threading
import time
from collections.abc import Callable

_STEP = 0.2  # seconds after which a stop is noticed


class NoRoom(Exception):
    """The bound was reached, and nothing became free in time."""


class HeldBytes:
    """Counts bytes by association; who finds no room waits, which its sender feels as a slow network.

    The holder whose request began first always gets what it asks for (its own size is bounded elsewhere): so one of
    them always comes to its end, and they never all wait for each other.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: dict[threading.Thread, int] = {}  # in the order in which the requests began
        self._total = 0
        self._changed = threading.Condition()

    @property
    def total(self) -> int:
        """Bytes held now."""
        with self._changed:
            self._forget_the_dead()
            return self._total

    def take(self, holder: threading.Thread, count: int, seconds: float, stopping: Callable[[], bool]) -> None:
        """Count ``count`` more bytes for ``holder``, waiting for room.

        Raises
        ------
        NoRoom
            If there was none within ``seconds``, or once ``stopping()``.
        """
        with self._changed:
            if self._total + count > self.limit:
                deadline = time.monotonic() + seconds
                while True:
                    self._forget_the_dead()
                    if self._total + count <= self.limit or holder is next(iter(self._held), holder):
                        break
                    if stopping() or time.monotonic() >= deadline:
                        raise NoRoom(f"{self._total} bytes of unanswered requests are held; the bound is {self.limit}")
                    self._changed.wait(_STEP)
            self._held[holder] = self._held.get(holder, 0) + count
            self._total += count

    def release(self, holder: threading.Thread, count: int | None = None) -> None:
        """Forget ``count`` bytes of a holder, or all of them."""
        with self._changed:
            held = self._held.pop(holder, 0)
            freed = held if count is None else min(count, held)
            if freed < held:  # what is left belongs to the next request, which begins now
                self._held[holder] = held - freed
            self._total -= freed
            self._changed.notify_all()

    def forget_the_dead(self) -> None:
        """Let go of associations that ended without an answer; each would keep its buffers for as long as we run."""
        with self._changed:
            self._forget_the_dead()

    def _forget_the_dead(self) -> None:
        """Free what associations held that are over; not all of them say so (pynetdicom may end without a close)."""
        for holder in [each for each in self._held if not each.is_alive()]:
            self._total -= self._held.pop(holder)
