"""When images are rejected for now: too many wait for analysis, or too little space is free.

Checked before every instance, so it must be cheap: free space is one system call; the backlog is counted at most once a
second, by one thread, up to its limit, plus the images that this process accepted since. The state needs no reset: the
next check finds that the condition has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from db.engine.session import Database, Session
from db.intake.backlog import backlog, backlog_reaches
from worker.config.settings import Settings
from worker.runtime.timeouts import BACKLOG_REST, BACKLOG_SEEN
from worker.storage.store import StoreUnavailable

_GIGABYTE = 1_000_000_000


class Limits:
    """The limits of one installation, as one process sees them; safe for many threads.

    Parameters
    ----------
    free_bytes
        The free space of the store's file system, in bytes.
    clock
        Monotonic time in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        free_bytes: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._database = database
        self._free_bytes = free_bytes
        self._clock = clock
        self._lock = threading.Lock()  # held for moments; never while the database is asked
        self._counting = threading.Lock()
        self._backlog = 0
        self._taken = 0  # since the count under way began
        self._count_at = float("-inf")

    def pressure(self, size: int = 0) -> str:
        """Return why an instance of ``size`` bytes is rejected now; empty if it is accepted.

        Raises
        ------
        worker.storage.store.StoreUnavailable, db.engine.session.DatabaseUnavailable
            If free space or backlog cannot be determined.
        """
        try:
            free = self._free_bytes()
        except OSError as error:
            raise StoreUnavailable(f"free space cannot be determined: {error.strerror or error}") from error
        return space_pressure(self._settings, free - size) or self._backlog_pressure()

    def no_space(self) -> str:
        """Return why nothing more may be written now; empty if writing is allowed."""
        try:
            return space_pressure(self._settings, self._free_bytes())
        except OSError as error:
            return f"free space cannot be determined: {error.strerror or error}"

    def took(self) -> None:
        """Count one more waiting image of this process."""
        with self._lock:
            self._backlog += 1
            self._taken += 1

    def _backlog_pressure(self) -> str:
        most = self._settings.intake.maximum_backlog
        if not most:
            return ""
        if self._clock() >= self._count_at and self._counting.acquire(blocking=False):
            try:
                self._count(most)
            finally:
                self._counting.release()
        with self._lock:  # while another thread counts: by the last count
            return _backlog_words(most) if self._backlog >= most else ""

    def _count(self, most: int) -> None:
        started = self._clock()
        with self._lock:
            self._taken = 0
        with self._database.read() as session:
            counted = backlog(session, most)
        ended = self._clock()
        with self._lock:
            self._backlog = counted + self._taken  # some perhaps twice, none not at all
            self._count_at = ended + max(BACKLOG_SEEN, BACKLOG_REST * (ended - started))


def space_pressure(settings: Settings, free: int) -> str:
    """Return why images are rejected with ``free`` bytes free; empty if there is enough space."""
    floor = floor_bytes(settings)
    if free >= floor:
        return ""
    return f"less than {settings.storage.minimum_free_gigabytes:g} GB free ([storage] minimum_free_gigabytes)"


def floor_bytes(settings: Settings) -> int:
    """Return the free bytes below which images are rejected."""
    return int(settings.storage.minimum_free_gigabytes * _GIGABYTE)


def backlog_pressure(settings: Settings, session: Session) -> str:
    """Return why images are rejected with the current backlog; empty if they are accepted. Counts nothing."""
    most = settings.intake.maximum_backlog
    return _backlog_words(most) if most and backlog_reaches(session, most) else ""


def _backlog_words(most: int) -> str:
    return f"{most} images or more wait for analysis ([intake] maximum_backlog)"
