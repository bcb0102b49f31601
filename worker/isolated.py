"""Calls made in a process of their own: what crashes or hangs there ends that one call, never the caller.

A decoder is foreign code let loose on foreign bytes. A segmentation fault takes its whole process along, and no thread
can be stopped that hangs in it; only another process can outlive both.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from worker.orphans import die_with_parent

_JOIN = 10.0  # seconds; a killed process is gone at once

Handler = Callable[[Any], Any]


class CallEnded(Exception):
    """The process that ran a call died or was killed; the message says how."""


class IsolatedCalls:
    """One child process that answers calls, started when first needed and again after each that it did not survive.

    Parameters
    ----------
    begin
        Run in the child when it starts, returns what answers there; it must be picklable.
    start_seconds
        How long `begin` may take.
    call_seconds
        How long one call may take before its process is killed.
    """

    def __init__(self, begin: Callable[[], Handler], *, start_seconds: float, call_seconds: float) -> None:
        self._begin = begin
        self._start_seconds, self._call_seconds = start_seconds, call_seconds
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def __call__(self, request: Any) -> Any:  # noqa: ANN401 - whatever the handler takes and gives
        """Answer one request; both are pickled.

        Raises
        ------
        CallEnded
            If the process crashed or took too long; the next call has a new one.
        Exception
            Whatever `begin` or the handler raised.
        """
        if self._connection is None:
            self._start()
        assert self._connection is not None
        self._connection.send(request)
        return self._answer(self._call_seconds)

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
        self._process = context.Process(target=_serve, args=(theirs, self._begin), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer(self._start_seconds)
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
            raise CallEnded(f"its process died: {_how(code)}") from None
        except BaseException:  # a Ctrl-C here would leave an answer behind that the next call would take for its own
            self.close()
            raise
        if raised:
            raise answer
        return answer


def _serve(connection: Connection, begin: Callable[[], Handler]) -> None:
    """Answer until the other end is closed."""
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; it ends this process when it ends itself
    try:
        handler = begin()
    except Exception as error:  # noqa: BLE001 - the process's outermost edge: raised again on the other side
        connection.send((True, error))
        return
    connection.send((False, None))
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            answer = (False, handler(request))
        except Exception as error:  # noqa: BLE001 - likewise
            answer = (True, error)
        connection.send(answer)


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
