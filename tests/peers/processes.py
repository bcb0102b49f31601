"""A process under test: started with its output in a file, waited for, killed without mercy, restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil


class NotReady(AssertionError):
    """A process under test did not become ready in time, or ended; the message carries the end of its log."""


def wait_until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.1) -> float:
    """Wait until `condition` holds and return the seconds it took; AssertionError naming `what` when it never does."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"{what}: still not so after {seconds:g} s")
        time.sleep(every)
    return time.monotonic() - started


def port_answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts TCP connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


class Process:
    """One foreign or own process, in a process group of its own so that a Ctrl-C of the tests does not reach it.

    Parameters
    ----------
    arguments
        Command line; the first is the program's path.
    log
        File that receives standard output and error; a restart appends.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.log = log
        self.cwd = cwd
        self.env = dict(env) if env is not None else None
        self._popen: subprocess.Popen[bytes] | None = None
        self._lineage: list[psutil.Process] = []
        self._log_before = 0

    @property
    def pid(self) -> int:
        """The process id; AssertionError when it was never started."""
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it; returns at once."""
        assert not self.running, f"{self.name} runs already"
        self._log_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env=self.env,
                start_new_session=True,
            )

    def wait_ready(self, ready: Callable[[], bool], seconds: float, what: str = "ready") -> float:
        """Wait until `ready()`; NotReady with the end of the log when it is not in time or the process ended."""
        started = time.monotonic()
        while not ready():
            if not self.running:
                raise NotReady(f"{self.name} ended before it was {what}:\n{self.log_tail()}")
            if time.monotonic() - started > seconds:
                raise NotReady(f"{self.name} was not {what} within {seconds:g} s:\n{self.log_tail()}")
            time.sleep(0.05)
        return time.monotonic() - started

    def children(self) -> list[psutil.Process]:
        """Its living descendants."""
        try:
            return [each for each in psutil.Process(self.pid).children(recursive=True) if _alive(each)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Kill -9 the process and all its descendants, as a power cut would."""
        self._end(signal.SIGKILL)

    def kill_alone(self) -> None:
        """Kill -9 the process only; its descendants have to notice by themselves."""
        self._lineage += self.children()
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            assert self._popen is not None
            self._popen.wait(60)

    def stop(self, seconds: float = 10) -> int | None:
        """Ask it to end (SIGTERM), kill it after `seconds`; its exit code."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
            assert self._popen is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)
        self._end(signal.SIGKILL)
        return self._popen.returncode if self._popen is not None else None

    def _end(self, how: signal.Signals) -> None:
        if self._popen is None:
            return
        doomed = [*self.children(), *(each for each in self._lineage if _alive(each))]
        if self.running:
            os.kill(self.pid, how)
        for each in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(how)
        self._popen.wait(60)
        psutil.wait_procs(doomed, timeout=60)
        self._lineage = []

    def log_text(self) -> str:
        """Everything it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_since_start(self) -> str:
        """What it has printed since it was last started."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[self._log_before :].decode("utf-8", errors="replace")

    def log_tail(self, lines: int = 25) -> str:
        """The last lines it printed."""
        return "\n".join(self.log_text().splitlines()[-lines:])


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
