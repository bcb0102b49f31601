"""Children end when the process that started them ends, even if it is killed."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(how: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send this process ``how`` when its parent dies; on systems other than Linux nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(how))
