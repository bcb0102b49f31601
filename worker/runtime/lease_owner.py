"""Who holds a lease, written so that another process on the same machine can tell whether the holder still lives."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def _place() -> str:
    """This machine since its last start, and this process-id namespace (containers may share a host name)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _started(pid: int) -> str | None:
    """Start time of a living process, in clock ticks since boot; None if there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def lease_owner() -> str:
    """Return this process's name in a lease."""
    pid = os.getpid()
    return f"{_place()}/{pid}/{_started(pid)}"


def is_dead(owner: str) -> bool:
    """Whether the process that took a lease is certainly gone; of other machines nothing is certain, so False."""
    place, _, rest = owner.rpartition("/")
    place, _, pid = place.rpartition("/")
    if not place or place != _place() or not pid.isdigit():
        return False
    return _started(int(pid)) != rest
