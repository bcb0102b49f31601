"""This process's row in the database: registered at start, kept by a heartbeat, marked stopped at an orderly end.

A lease names the row whose process took it. The process is gone, and what it holds is released, when its row is marked
stopped, when its heartbeat is older than `PROCESS_LOST`, or, on the same machine, when its process id is gone or used
by a process that started at another time.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import structlog

from db.engine import processes
from db.engine.leases import database_time
from db.engine.processes import ProcessIdentity, ProcessRecord
from db.engine.session import Database, DatabaseUnavailable, Session
from worker.runtime.clock import Clock, now
from worker.runtime.timeouts import HEARTBEAT_EVERY, PROCESS_LOST

PROCESSES = ("listen", "work", "deliver", "schedule", "web")  # what an installation runs, on one machine or on several
ANALYSIS_CHILD = "analysis child"  # of `work`

_log = structlog.get_logger(__name__)
_STEADY = timedelta(seconds=2 * HEARTBEAT_EVERY)  # between two heartbeats that follow each other


class RegisteredProcess:
    """The row of this process, and its judgement of other rows. Nothing is written before `start` or `owner`.

    Parameters
    ----------
    database
        Returns the database; asked at each heartbeat, so that one which is away at the start is waited for.
    name
        One of `PROCESSES`, or `ANALYSIS_CHILD`.
    forks
        Whether this process forks children: none is forked during a heartbeat, nor inherits a connection.
    clock
        Of this process; what works for it (senders, recovery, the analyst) reads the same.
    """

    def __init__(self, database: Callable[[], Database], name: str, *, forks: bool = False, clock: Clock = now) -> None:
        self.clock = clock
        self._database = database
        self._name = name
        self._forks = forks
        self._writing = threading.Lock()
        self._row: tuple[int, ProcessIdentity] | None = None
        self._beaten_at: datetime | None = None
        self._steady_since: datetime | None = None  # every heartbeat since then was written in time
        self._is_away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="heartbeat", daemon=True)
        if forks:
            # a child forked while another thread holds a lock of SQLite's or libpq's would find it held for ever
            os.register_at_fork(
                before=self._writing.acquire,
                after_in_parent=self._writing.release,
                after_in_child=self._writing.release,
            )

    def __enter__(self) -> RegisteredProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Register, and write a heartbeat every `HEARTBEAT_EVERY` seconds, in a thread; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeat and mark this process stopped; a database that is away is not waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._row is None:
            return
        try:
            with self._database().write() as session:
                processes.stop(session, self._row[0], database_time(session, self.clock))
        except DatabaseUnavailable as error:
            _log.warning("end of this process not recorded", error=str(error))

    @property
    def owner(self) -> str:
        """The name of this process in a lease. Registers it first where it is not: ask outside of a transaction.

        Raises
        ------
        db.engine.session.DatabaseUnavailable
            If it is not registered yet and cannot be.
        """
        if self._row is None:
            self.beat()
        assert self._row is not None
        return str(self._row[0])

    def beat(self) -> None:
        """Write a heartbeat, registering where there is no row of this process. `DatabaseUnavailable`."""
        with self._writing:
            database = self._database()
            try:
                with database.write() as session:
                    moment = database_time(session, self.clock)
                    row = self._row
                    if row is None or not processes.beat(session, *row, moment):
                        row = self._register(session, moment)
            finally:
                if self._forks:
                    database.dispose()
            self._row = row
            if self._beaten_at is None or not timedelta(0) <= moment - self._beaten_at <= _STEADY:
                self._steady_since = moment
            self._beaten_at = moment

    def _register(self, session: Session, moment: datetime) -> tuple[int, ProcessIdentity]:
        """Insert this process's row; what it replaces on this machine, and ended without saying so, is closed."""
        for former in processes.unstopped(session):
            if former.identity.name == self._name and not is_running(former, moment, by_heartbeat=False):
                processes.stop(session, former.id, moment)
        identity = _identity(self._name)
        return processes.register(session, identity, moment), identity

    def judge(self, session: Session, moment: datetime) -> Callable[[str], bool]:
        """Return what tells whether the process of this name in a lease is gone, at the database's time ``moment``.

        The rows are read when it is first asked, after the leases were: a process that registered and claimed
        meanwhile must be among them. By their heartbeats others are judged only if this process has written its own
        without a gap for `PROCESS_LOST`: after the database was away, nobody's is recent.
        """
        living: set[str] | None = None

        def is_gone(process: str) -> bool:
            nonlocal living
            if living is None:
                by_heartbeat = self._is_steady(moment)
                rows = processes.unstopped(session)
                living = {str(row.id) for row in rows if is_running(row, moment, by_heartbeat=by_heartbeat)}
            return process not in living

        return is_gone

    def _is_steady(self, moment: datetime) -> bool:
        if self._beaten_at is None or self._steady_since is None:
            return False
        return moment - self._beaten_at <= _STEADY and moment - self._steady_since >= PROCESS_LOST

    def _beat_until_stopped(self) -> None:
        while not self._stop.is_set():
            try:
                self.beat()
                self._is_away = False
            except Exception as error:  # noqa: BLE001 - the edge of a thread: no heartbeat is worth a process
                if not self._is_away:  # once, until it is back
                    text = str(error) if isinstance(error, DatabaseUnavailable) else type(error).__name__
                    _log.error("heartbeat not written", error=text)
                self._is_away = True
            self._stop.wait(HEARTBEAT_EVERY)


def is_running(process: ProcessRecord, moment: datetime, *, by_heartbeat: bool = True) -> bool:
    """Whether a process that is not marked stopped still runs, as far as can be known at the database's ``moment``.

    Parameters
    ----------
    by_heartbeat
        Whether an old heartbeat counts; without it only a process of this machine can be known to be gone.
    """
    identity = process.identity
    is_here = identity.boot != "" and (identity.host, identity.boot) == (socket.gethostname(), _boot())
    if is_here and _pid_start(identity.pid) != identity.pid_start:
        return False
    # one far in the future was written before the clock was corrected: who lives has overwritten it
    return not by_heartbeat or abs(moment - process.heartbeat_at) <= PROCESS_LOST


def _identity(name: str) -> ProcessIdentity:
    pid = os.getpid()
    return ProcessIdentity(name, socket.gethostname(), _boot(), pid, _pid_start(pid) or "")


@lru_cache(maxsize=1)
def _boot() -> str:
    """The last start of this machine, and the process-id namespace: containers may share a host name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink().name}"
    except OSError:
        return ""


def _pid_start(pid: int) -> str | None:
    """Start time of a living process, in clock ticks since boot; None if there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
