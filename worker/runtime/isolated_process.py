"""Calls run in a separate process: a crash or a hang there ends that one call, never the caller.

A decoder is foreign code that runs on foreign bytes. A segmentation fault ends the whole process, and a thread that
hangs cannot be stopped; only a separate process isolates both. (`pebble` was tried: it neither limits nor reports a
failing start, and has no idle end.)
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from worker.runtime.parent_death import die_with_parent

_JOIN = 10.0  # seconds; a killed process is gone at once

Handler = Callable[[Any], Any]


class CallEnded(Exception):
    """The process that ran a call died or was killed; the message says how."""


class NotBegun(CallEnded):
    """The process did not start: a fault of the machine, not of the call."""


class IsolatedCalls:
    """One child process that answers calls, started at the first call and again after a crash or a kill.

    All calls must come from the thread of the first: the child ends when that thread ends.

    Parameters
    ----------
    begin
        Run in the child when it starts, returns what answers there; it must be picklable.
    start_seconds
        How long `begin` may take.
    call_seconds
        How long one call may take before its process is killed.
    idle_seconds
        After how long without a call the child ends, to be started again by the next; None: never.
    """

    def __init__(
        self,
        begin: Callable[[], Handler],
        *,
        start_seconds: float,
        call_seconds: float,
        idle_seconds: float | None = None,
    ) -> None:
        self._begin = begin
        self._start_seconds, self._call_seconds, self._idle_seconds = start_seconds, call_seconds, idle_seconds
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def __call__(self, request: Any) -> Any:  # noqa: ANN401 - whatever the handler takes and gives
        """Answer one request; both are pickled.

        Raises
        ------
        CallEnded
            If the process crashed or took too long; the next call has a new one.
        NotBegun
            If that happened while it started.
        Exception
            Whatever `begin` or the handler raised.
        """
        try:
            return self._ask(request)
        except _Rested:  # it ended because it was idle, at the moment of this call
            return self._ask(request)

    def _ask(self, request: Any) -> Any:  # noqa: ANN401
        if self._process is not None and not self._process.is_alive():
            self.close()  # it ended between two calls: not the fault of the next
        if self._connection is None:
            self._start()
        assert self._connection is not None
        with suppress(ConnectionError):  # reading the answer reports it
            self._connection.send(request)
        return self._answer(self._call_seconds)

    def kill(self) -> None:
        """End the child from any thread: a call that waits for it ends with `CallEnded`."""
        process = self._process
        if process is not None:
            with suppress(ValueError):  # closed meanwhile
                process.kill()

    def close(self) -> None:
        """End the child."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.join(_JOIN)
        self._process = self._connection = None

    def __enter__(self) -> IsolatedCalls:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.close()

    def _start(self) -> None:
        # spawned, not forked: the caller may hold threads and open libraries that do not survive a fork
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._begin, self._idle_seconds), daemon=True)
        process.start()
        self._process = process
        theirs.close()
        try:
            self._answer(self._start_seconds)
        except CallEnded as error:
            raise NotBegun(str(error)) from None
        except BaseException:
            self.close()
            raise

    def _answer(self, seconds: float) -> Any:  # noqa: ANN401
        assert self._connection is not None
        assert self._process is not None
        try:
            if not self._connection.poll(seconds):
                self.close()
                raise CallEnded(f"it did not end within {seconds:g} s and was stopped")
            raised, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(_JOIN)
            code = self._process.exitcode
            self.close()
            raise (_Rested if code == 0 else CallEnded)(f"its process died: {how_it_died(code)}") from None
        except BaseException:  # after a Ctrl-C here, the next call would receive the answer of this one
            self.close()
            raise
        if raised:
            raise answer
        return answer


class _Rested(CallEnded):
    """The child ended by itself after it was idle."""


def unforeseen(error: BaseException) -> str:
    """Describe an unexpected error by its class and source line; its message may hold patient data and is left out."""
    raised_at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(raised_at.filename).name}:{raised_at.lineno}"
    return f"unexpected {type(error).__name__} at {where}: a defect of this program, please report it"


def _serve(connection: Connection, begin: Callable[[], Handler], idle_seconds: float | None) -> None:
    """Answer calls until the other end is closed, or for ``idle_seconds`` no call has come."""
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; it ends this process when it ends itself
    try:
        handler = begin()
    except Exception as error:  # noqa: BLE001 - the process's outermost edge: raised again on the other side
        connection.send((True, error))
        return
    connection.send((False, None))
    while connection.poll(idle_seconds):
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            answer = (False, handler(request))
        except Exception as error:  # noqa: BLE001 - likewise
            answer = (True, error)
        connection.send(answer)


def how_it_died(code: int | None) -> str:
    """Describe how a process ended. ``code``: its exit code, or the negative number of the signal that ended it."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
