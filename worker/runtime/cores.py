"""How many cores this process may use: those it is bound to, no more than its control group's quota gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cores(system: Path = Path("/")) -> int:
    """Return the number of cores, at least 1.

    A quota is a share of time, in cores; of a fraction the whole part counts, as a process more would be throttled.

    Parameters
    ----------
    system
        The root of the file system in which ``proc`` and ``sys`` are looked for.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([bound, *_quotas(system)])))


def _quotas(system: Path) -> Iterator[float]:
    """The quota of this process's control group and of each above it, in cores (cgroups(7)); v2 and v1."""
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux, or no control groups
        return
    for line in lines:
        _number, controllers, place = line.split(":", 2)
        folder = system / "sys/fs/cgroup"
        if controllers:
            if "cpu" not in controllers.split(","):
                continue
            folder = folder / ("cpu" if (folder / "cpu").is_dir() else controllers)
        # within a container the group's own name may not be seen: then what is mounted there is the group itself
        inner = PurePosixPath(place.lstrip("/"))
        for group in (inner, *inner.parents):
            yield from _quota(folder / group)


def _quota(group: Path) -> Iterator[float]:
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        if quota.strip() not in ("max", "-1"):
            yield float(quota) / float(period)
    except (OSError, ValueError):
        return
