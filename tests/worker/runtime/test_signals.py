"""A request to stop is heard at every moment, also the first one after the start."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_WAITING = """
import threading
from worker.runtime.signals import stop_event
stop = stop_event(on_repeated=lambda: print("again", flush=True))
busy = [threading.Thread(target=lambda: sum(range(10**7)), daemon=True) for _ in range(4)]
for thread in busy:
    thread.start()
print("ready", flush=True)
stop.wait()
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("_time", range(3))
def test_process_stops_though_the_signal_comes_at_once(number: signal.Signals, _time: int) -> None:
    with subprocess.Popen([sys.executable, "-c", _WAITING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (output, process.returncode) == ("stopped\n", 0)
