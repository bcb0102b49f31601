"""A call in a process of its own ends with an answer, an error, or the way its process went; the next one is served."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import pytest

from tests.peers.poison import deadlock
from tests.peers.processes import wait_until
from worker.runtime.isolated_process import CallEnded, Handler, IsolatedCalls, NotBegun


def begin() -> Handler:
    return handle


def broken_begin() -> Handler:
    raise LookupError("no model")


def handle(request: str) -> Any:  # noqa: ANN401
    acts: dict[str, Callable[[], Any]] = {
        "pid": os.getpid,
        "crash": partial(ctypes.string_at, 1),
        "hang": deadlock,
        "exit": partial(os._exit, 3),
        "raise": partial(int, "x"),
    }
    return acts[request]()


def test_what_crashes_hangs_or_raises_ends_one_call_and_says_how() -> None:
    with IsolatedCalls(begin, start_seconds=60, call_seconds=60) as calls:
        first = calls("pid")
        assert first != os.getpid()
        with pytest.raises(ValueError, match="invalid literal"):
            calls("raise")
        assert calls("pid") == first  # an error costs no process
        with pytest.raises(CallEnded, match=r"its process died: signal 11 \(SIGSEGV\)"):
            calls("crash")
        with pytest.raises(CallEnded, match="its process died: exit code 3"):
            calls("exit")
        last = calls("pid")
        assert last != first
    if sys.platform == "linux":
        with pytest.raises(ProcessLookupError):
            os.kill(last, 0)


def test_what_hangs_is_stopped_in_time_and_the_next_one_is_served() -> None:
    with IsolatedCalls(begin, start_seconds=60, call_seconds=2) as calls:
        with pytest.raises(CallEnded, match="it did not end within 2 s and was stopped"):
            calls("hang")
        assert calls("pid") != os.getpid()


def test_a_child_that_rests_or_was_killed_between_calls_costs_no_call() -> None:
    with IsolatedCalls(begin, start_seconds=60, call_seconds=60, idle_seconds=0.5) as calls:
        first = calls("pid")
        wait_until(lambda: _ended(first), 60, "it rests")
        assert calls("pid") != first
    with IsolatedCalls(begin, start_seconds=60, call_seconds=60) as calls:
        first = calls("pid")
        calls.kill()
        wait_until(lambda: _ended(first), 60, "it is killed")
        assert calls("pid") != first


def _ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_what_does_not_begin_is_told_from_what_a_call_ended() -> None:
    with (
        IsolatedCalls(partial(os._exit, 4), start_seconds=60, call_seconds=2) as calls,
        pytest.raises(NotBegun, match="its process died: exit code 4"),
    ):
        calls("pid")


def test_what_cannot_begin_says_why() -> None:
    with IsolatedCalls(broken_begin, start_seconds=60, call_seconds=2) as calls:
        for _ in range(2):
            with pytest.raises(LookupError, match="no model"):
                calls("pid")
