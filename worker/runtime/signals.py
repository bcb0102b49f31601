"""Asking a process to stop: SIGTERM and SIGINT become an event that threads can wait for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def stop_event(on_repeated: Callable[[], None] = lambda: None) -> threading.Event:
    """Return an event that the first SIGTERM or SIGINT sets; each further one calls ``on_repeated``.

    The signal's number comes through a pipe that the interpreter writes in whichever thread the kernel delivers to. A
    handler in Python alone would not do: while the main thread waits for a lock it runs late or never, and setting the
    event in it can deadlock on the event's own lock.
    """
    stop = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def listen() -> None:
        while True:
            os.read(reading, 1)
            if stop.is_set():
                on_repeated()
            stop.set()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    return stop
