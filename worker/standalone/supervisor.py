"""Supervision of processes: restarts them with backoff when they die, stops them in order, leaves none running."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.queue.broker import BrokerUnavailable
from worker.runtime.timeouts import RESTART_BACKOFF, RESTART_FORGIVEN, STOP_PATIENCE

Say = Callable[[str], None]
_LOG_TAIL = 65_536  # bytes; a log may have grown for months


@dataclass(frozen=True)
class Program:
    """One process to keep alive: its name, where its log is, and how it is started."""

    name: str
    log: Path
    start: Callable[[], subprocess.Popen[bytes]]


@dataclass
class Kept:
    """A program with its process and its restarts."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    failures: int = 0  # in a row, without a longer run in between
    due_at: float = 0.0
    last_log_line: str = ""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Supervisor:
    """Starts programs, restarts those that die, and stops all of them in the given order.

    Parameters
    ----------
    programs : sequence of Program
        In starting order.
    stopping_order : sequence of str
        Names, in the order in which they are stopped.
    say : callable
        Called with each event, as one line of text.
    clock : callable
        Seconds, monotonic.
    """

    programs: Sequence[Program]
    stopping_order: Sequence[str]
    say: Say
    clock: Callable[[], float] = time.monotonic
    kept: dict[str, Kept] = field(init=False)

    def __post_init__(self) -> None:
        self.kept = {program.name: Kept(program) for program in self.programs}

    def start(self) -> None:
        """Start every program once."""
        for kept in self.kept.values():
            self._start(kept)

    def first_dead(self) -> Kept | None:
        """Return a program that has already ended, if there is one; used during the first start."""
        return next((kept for kept in self.kept.values() if not kept.running), None)

    def tend(self) -> None:
        """Check for processes that died, and restart those that are due. To be called often."""
        for kept in self.kept.values():
            if kept.process is not None and not kept.running:
                self._mourn(kept)
            elif kept.process is None and self.clock() >= kept.due_at:
                kept.restarts += 1
                self._start(kept)
                if kept.process is not None:
                    self.say(f"{kept.program.name} started again")

    def stop(self) -> None:
        """Stop every program in order and let each finish its work; kill those that do not end in time."""
        for name in self.stopping_order:
            kept = self.kept[name]
            if kept.process is None or not kept.running:
                continue
            kept.process.terminate()
            try:
                kept.process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                self.say(f"{name} did not stop within {STOP_PATIENCE:.0f} s and was killed")
                kept.process.kill()
                kept.process.wait()

    def kill(self) -> None:
        """Kill every program at once; leases in the database make that harmless."""
        for kept in self.kept.values():
            if kept.process is not None and kept.running:
                kept.process.kill()
                kept.process.wait()

    def _start(self, kept: Kept) -> None:
        kept.started_at = self.clock()
        try:
            kept.process = kept.program.start()
        except (OSError, BrokerUnavailable) as error:
            kept.process = None
            kept.last_log_line = ""
            self._plan(kept, f"{kept.program.name} could not be started: {error}")

    def _mourn(self, kept: Kept) -> None:
        process = kept.process
        assert process is not None
        kept.process = None
        # a killed process logged no error: the last line of its log says nothing about its death
        kept.last_log_line = last_line(kept.program.log) if process.returncode > 0 else ""
        if self.clock() - kept.started_at > RESTART_FORGIVEN:
            kept.failures = 0
        self._plan(kept, f"{kept.program.name} died ({_how(process.returncode)})")

    def _plan(self, kept: Kept, what: str) -> None:
        delay = RESTART_BACKOFF[min(kept.failures, len(RESTART_BACKOFF) - 1)]
        kept.failures += 1
        kept.due_at = self.clock() + delay
        words = f": {kept.last_log_line}" if kept.last_log_line else ""
        self.say(f"{what}, starting it again in {delay:.0f} s{words}")


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank, shortened; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1][:300] if spoken else ""


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit {code}"
