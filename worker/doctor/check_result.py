"""What the doctor's checks take and give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from worker.config.settings import Settings
from worker.monitoring.processes import ProcessState
from worker.runtime.clock import Clock

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    check
        Its name, stable, as monitoring knows it.
    level
        ``failed``: studies are not received, read or sent, or may be lost; ``warning``: a person should know.
    seen
        What was seen, in one line.
    mend
        What to do about it, in one line; empty where nothing is amiss.
    """

    check: str
    level: Level
    seen: str
    mend: str = ""


@dataclass(frozen=True)
class Examined:
    """One installation, and its processes on every machine; empty where the database has none or does not answer."""

    settings: Settings
    processes: tuple[ProcessState, ...]
    clock: Clock

    @property
    def level_if_silent(self) -> Level:
        """How bad it is that a service of ours does not answer: before anything was started it is no fault."""
        return "failed" if any(each.state == "running" for each in self.processes) else "warning"


Check = Callable[[Examined], Iterator[Finding]]
