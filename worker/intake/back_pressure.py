"""When senders are told to come back later: too much waits to be read, or too little space is free.

Asked before every instance, so it costs next to nothing: free space is one system call, and the backlog is counted once
a second at most, bounded by its limit, with what this process took since added to it. Nothing has to be reset: the next
question finds that the condition has ended.
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
    """The limits of one installation, as one process sees them; may be asked from many threads.

    Parameters
    ----------
    free_bytes
        The free space of the store's file system, in bytes.
    clock
        Seconds that never go backwards.
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
        self._lock = threading.Lock()
        self._backlog = 0
        self._count_at = float("-inf")

    def pressure(self, size: int = 0) -> str:
        """Return why nothing (of ``size`` bytes) is taken now, in words for people; empty where it is.

        Raises
        ------
        worker.storage.store.StoreUnavailable, db.engine.session.DatabaseUnavailable
            If free space or backlog cannot be known.
        """
        try:
            free = self._free_bytes()
        except OSError as error:
            raise StoreUnavailable(f"free space cannot be asked for: {error.strerror or error}") from error
        return space_pressure(self._settings, free - size) or self._backlog_pressure()

    def no_space(self) -> str:
        """Return why nothing more may be written now, in words; empty where it may."""
        try:
            return space_pressure(self._settings, self._free_bytes())
        except OSError as error:
            return f"free space cannot be asked for: {error.strerror or error}"

    def took(self) -> None:
        """Note that this process made one more image wait."""
        with self._lock:
            self._backlog += 1

    def _backlog_pressure(self) -> str:
        most = self._settings.intake.maximum_backlog
        if not most:
            return ""
        with self._lock:
            if self._clock() >= self._count_at:
                started = self._clock()
                with self._database.read() as session:
                    self._backlog = backlog(session, most)
                ended = self._clock()
                self._count_at = ended + max(BACKLOG_SEEN, BACKLOG_REST * (ended - started))
            return _backlog_words(most) if self._backlog >= most else ""


def space_pressure(settings: Settings, free: int) -> str:
    """Return why nothing is taken with ``free`` bytes free; empty where there is room."""
    floor = floor_bytes(settings)
    if free >= floor:
        return ""
    return f"less than {settings.storage.minimum_free_gigabytes:g} GB free ([storage] minimum_free_gigabytes)"


def floor_bytes(settings: Settings) -> int:
    """Return below how many free bytes nothing more is taken."""
    return int(settings.storage.minimum_free_gigabytes * _GIGABYTE)


def backlog_pressure(settings: Settings, session: Session) -> str:
    """Return why nothing is taken with what waits now; empty where it is. Counts nothing: for a look from outside."""
    most = settings.intake.maximum_backlog
    return _backlog_words(most) if most and backlog_reaches(session, most) else ""


def _backlog_words(most: int) -> str:
    return f"{most} images or more wait to be read ([intake] maximum_backlog)"
