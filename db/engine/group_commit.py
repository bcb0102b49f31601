"""Concurrent writes of several threads share one transaction, so that SQLite syncs its log once for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from db.engine.session import Database, DatabaseUnavailable, Session

T = TypeVar("T")
_MOST = 16  # writes a transaction; other processes wait for the end of it


class _Write(Generic[T]):
    """One thread's write, and its outcome."""

    def __init__(self, job: Callable[[Session], T]) -> None:
        self.job = job
        self.ended = False
        self.error: Exception | None = None
        self.result: T

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result


class GroupedWrites:
    """Runs writes of one process; each is committed when `run` returns, whichever thread ran it.

    Threads that come while a transaction is being committed wait for it, and the first of them then writes for all.
    On other databases than SQLite, whose writers take turns anyway, each writes alone: groups would lock rows in
    different orders.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Write[object]] = []

    @property
    def waiting(self) -> int:
        """How many writes wait for their turn."""
        with self._lock:
            return len(self._waiting)

    def run(self, job: Callable[[Session], T]) -> T:
        """Run ``job`` within a writing transaction, and return its result once that is committed.

        It may be run again, from the beginning, where another one of its group fails. Raises what it raises, and
        `db.engine.session.DatabaseUnavailable`; nothing of it is written then.
        """
        write = _Write(job)
        if not self._database.is_sqlite:
            self._alone(write)
            return write.outcome()
        with self._lock:
            self._waiting.append(write)  # type: ignore[arg-type]
        while not write.ended:
            with self._turn:
                if not write.ended:
                    with self._lock:
                        group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                    self._together(group)
        return write.outcome()

    def _together(self, group: list[_Write[object]]) -> None:
        if len(group) > 1:
            try:
                with self._database.write() as session:
                    results = []
                    for each in group:
                        results.append(each.job(session))
                        session.flush()
            except DatabaseUnavailable as error:  # for each of them: every further attempt would take as long to fail
                for each in group:
                    each.error, each.ended = error, True
                return
            except Exception:  # noqa: BLE001 - which write failed, and how, shows when each is run alone
                pass
            else:
                for each, result in zip(group, results, strict=True):
                    each.result, each.ended = result, True
                return
        for each in group:
            self._alone(each)

    def _alone(self, write: _Write[T]) -> None:
        try:
            with self._database.write() as session:
                result = write.job(session)
        except Exception as error:  # noqa: BLE001 - raised again in the thread of this write
            write.error = error
        else:
            write.result = result
        write.ended = True
