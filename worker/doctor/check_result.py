"""Input and result of the doctor's checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from worker.config.settings import Settings
from worker.monitoring.processes import ProcessState
from worker.runtime.clock import Clock

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    check
        Its name; it stays the same between versions, so that monitoring can refer to it.
    level
        ``failed``: studies are not received, analysed or sent, or may be lost; ``warning``: to be looked at.
    detail
        What was found, in one line.
    remedy
        What to do about it, in one line; empty when the level is ``ok``.
    """

    check: str
    level: Level
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Examined:
    """One installation, and its processes on every machine; empty where the database has none or does not answer."""

    settings: Settings
    processes: tuple[ProcessState, ...]
    clock: Clock

    @property
    def level_if_silent(self) -> Level:
        """The level of a service of ours that does not answer: a warning where none was started or all are stopped."""
        return "failed" if any(each.state != "missing" for each in self.processes) else "warning"


Check = Callable[[Examined], Iterator[CheckResult]]
