"""A call in a process of its own ends with an answer, an error, or the way its process went; the next one is served."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.peers.poison import deadlock
from worker.isolated import CallEnded, Handler, IsolatedCalls


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
    with IsolatedCalls(begin, start_seconds=30, call_seconds=2) as calls:
        first = calls("pid")
        assert first != os.getpid()
        with pytest.raises(ValueError, match="invalid literal"):
            calls("raise")
        assert calls("pid") == first  # an error costs no process
        with pytest.raises(CallEnded, match=r"its process died: signal 11 \(SIGSEGV\)"):
            calls("crash")
        with pytest.raises(CallEnded, match="its process died: exit code 3"):
            calls("exit")
        with pytest.raises(CallEnded, match="it did not end within 2 s and was stopped"):
            calls("hang")
        last = calls("pid")
        assert last != first
    if sys.platform == "linux":
        with pytest.raises(ProcessLookupError):
            os.kill(last, 0)


def test_what_cannot_begin_says_why() -> None:
    with IsolatedCalls(broken_begin, start_seconds=30, call_seconds=2) as calls:
        for _ in range(2):
            with pytest.raises(LookupError, match="no model"):
                calls("pid")
