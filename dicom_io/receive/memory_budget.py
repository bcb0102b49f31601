"""A limit on the bytes that all associations together hold, in files or in memory, for unanswered requests.

A limit for each association would not do: fifty of them times the largest object exceed the memory of most machines.
"""

import threading
import time
from collections.abc import Callable

_STEP = 0.2  # seconds after which a stop is noticed


class BudgetExhausted(Exception):
    """The limit was reached, and too little was released in time."""


class MemoryBudget:
    """Counts bytes by association; one that exceeds the limit waits, which its sender experiences as a slow network.

    The association whose request began first may always continue (its size is limited elsewhere): so one of them always
    finishes, and they never all wait for each other.
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
            self._release_ended()
            return self._total

    def take(self, holder: threading.Thread, count: int, seconds: float, stopping: Callable[[], bool]) -> None:
        """Count ``count`` more bytes for ``holder``, waiting until they are within the limit.

        Raises
        ------
        BudgetExhausted
            If they are not within ``seconds``, or once ``stopping()``.
        """
        with self._changed:
            if self._total + count > self.limit:
                deadline = time.monotonic() + seconds
                while True:
                    self._release_ended()
                    if self._total + count <= self.limit or holder is next(iter(self._held), holder):
                        break
                    if stopping() or time.monotonic() >= deadline:
                        reason = f"{self._total} bytes of unanswered requests are held; the maximum is {self.limit}"
                        raise BudgetExhausted(reason)
                    self._changed.wait(_STEP)
            self._held[holder] = self._held.get(holder, 0) + count
            self._total += count

    def release(self, holder: threading.Thread, count: int | None = None) -> None:
        """Release ``count`` bytes of an association, or all of them."""
        with self._changed:
            held = self._held.pop(holder, 0)
            released = held if count is None else min(count, held)
            if released < held:  # the rest belongs to the next request, which begins now
                self._held[holder] = held - released
            self._total -= released
            self._changed.notify_all()

    def release_ended(self) -> None:
        """Release what associations held whose thread has ended; pynetdicom may end one without closing its socket."""
        with self._changed:
            self._release_ended()

    def _release_ended(self) -> None:
        for holder in [each for each in self._held if not each.is_alive()]:
            self._total -= self._held.pop(holder)
