"""A whole installation of cxr-triage in a folder of its own: every process started separately, to be killed at will."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.peers.orthanc import Orthanc
from tests.peers.processes import Process, port_answers, wait_until
from tests.peers.programs import free_port
from tests.peers.radiographs import Radiograph
from tests.peers.valkey import Valkey

PROCESSES = ("listen", "work", "deliver", "schedule", "web")
# A traceback in a log is a defect whatever else happened, and so is a patient's identity.
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Ran:
    """A command of ours that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams, for a message that may stand in either."""
        return self.stdout + self.stderr

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """The parsed standard output; AssertionError with both streams where it is no JSON."""
        try:
            return json.loads(self.stdout)
        except ValueError as fault:
            raise AssertionError(f"not JSON (exit {self.exit_code}): {self.output[-2000:]}") from fault


class Site:
    """One installation: home folder, configuration with ports of its own, one process of each kind, a broker.

    Use as a context manager; leaving it stops everything. Nothing runs before `start`.

    Parameters
    ----------
    folder
        Everything is below it: ``home/``, ``site.toml``, ``logs/``.
    pacs
        The destination of results; without one they stay on the worklist.
    children
        How many worker children read images.
    home
        Its home folder where that is not below `folder`.
    more
        TOML text appended to the configuration.
    program
        The console script to run; by default that of the environment which runs the tests.
    """

    ae_title = "CXRTRIAGE"

    def __init__(
        self,
        folder: Path,
        *,
        pacs: Orthanc | None = None,
        allowed_callers: Sequence[str] = (),
        children: int = 1,
        more: str = "",
        home: Path | None = None,
        program: Path | None = None,
    ) -> None:
        self.folder = folder
        self.program = program or Path(sys.executable).parent / "cxr-triage"
        self.home = home or folder / "home"
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.broker = Valkey(folder / "broker")
        self.dicom_port = free_port()
        self.web_port = free_port()
        self.pacs = pacs
        self.children = children
        self.configuration = folder / "site.toml"
        self.configuration.write_text(self._toml(allowed_callers, children) + more, encoding="utf-8")
        self.processes = {name: self._process(name) for name in (*PROCESSES, "up")}

    def _toml(self, allowed_callers: Sequence[str], children: int) -> str:
        lines = [
            "[dicom]",
            f'ae_title = "{self.ae_title}"',
            'host = "127.0.0.1"',
            f"port = {self.dicom_port}",
            f"allowed_callers = {json.dumps(list(allowed_callers))}",
            "[web]",
            'host = "127.0.0.1"',
            f"port = {self.web_port}",
            "[worker]",
            f"processes = {children}",
            "[broker]",
            f'url = "{self.broker.url}"',
        ]
        if self.pacs is not None:
            lines += [
                "[[destinations]]",
                'name = "pacs"',
                f'ae_title = "{self.pacs.ae_title}"',
                'host = "127.0.0.1"',
                f"port = {self.pacs.dicom_port}",
                'send = ["heatmap"]',
            ]
        return "\n".join(lines) + "\n"

    def __enter__(self) -> Site:
        self.broker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        for process in self.processes.values():
            process.stop(8)
        self.broker.process.stop(5)

    def __getitem__(self, name: str) -> Process:
        return self.processes[name]

    # Processes

    def command(self, *words: str) -> list[str]:
        """The command line of ``cxr-triage WORDS`` for this installation."""
        return [str(self.program), *words, "--home", str(self.home), "--config", str(self.configuration)]

    def environment(self) -> dict[str, str]:
        """What our processes inherit: this machine's, without another site's settings or a path to our sources."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CXR_TRIAGE_", "PYTHON"))}
        return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"}

    def _process(self, name: str) -> Process:
        return Process(name, self.command(name), self.logs / f"{name}.log", self.folder, self.environment())

    def start(self, *names: str) -> Site:
        """Start the named processes (all but `up` where none is named) and wait until each is ready."""
        wanted = names or PROCESSES
        self.activate_model()
        for name in wanted:
            self.processes[name].start()
        for name in wanted:
            self.wait_ready(name)
        return self

    def activate_model(self) -> None:
        """Choose the model, as the engineer does once: the one that ships, or the bundle that TEST_MODEL names."""
        done = self.run("model", "activate", os.environ.get("TEST_MODEL", "demonstration"))
        assert done.exit_code == 0, done.output

    def wait_ready(self, name: str, seconds: float = 60) -> float:
        """Wait until a process does its work; the seconds it took from this call."""
        ready: dict[str, Callable[[], bool]] = {
            "listen": lambda: port_answers(self.dicom_port),
            "web": lambda: port_answers(self.web_port),
            "work": lambda: process.log_since_start().count("worker child ready") >= self.children,
        }
        process = self.processes[name]
        return process.wait_ready(ready.get(name, lambda: '"event": "ready"' in process.log_since_start()), seconds)

    def restart(self, name: str) -> None:
        """Start a killed process again and wait until it is ready."""
        self.processes[name].start()
        self.wait_ready(name)

    def run(self, *words: str, seconds: float = 120) -> Ran:
        """Run ``cxr-triage WORDS`` to its end."""
        done = subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            cwd=self.folder,
            env=self.environment(),
        )
        return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    # What it says of itself

    def ledger(self) -> dict[str, Any]:
        """``cxr-triage ledger --json``."""
        return dict(self.run("ledger", "--json").json())

    def ledger_by_web(self) -> dict[str, Any]:
        """The same from the web process, without starting a command: cheap enough to poll."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/api/ledger", timeout=60) as answer:
            return dict(json.load(answer))

    def worklist(self) -> list[dict[str, Any]]:
        """The items of ``cxr-triage worklist --json``, in reading order."""
        return list(self.run("worklist", "--json").json()["items"])

    def wait_ledger(self, condition: Callable[[dict[str, Any]], bool], seconds: float, what: str) -> dict[str, Any]:
        """Wait until the ledger fulfils `condition`; AssertionError with the ledger and the logs when it never does."""
        ledger: dict[str, Any] = {}
        by_web = self.processes["web"].running

        def holds() -> bool:
            nonlocal ledger
            ledger = self.ledger_by_web() if by_web else self.ledger()
            return condition(ledger)

        try:
            wait_until(holds, seconds, what, every=0.2)
        except AssertionError as fault:
            tails = "\n".join(f"--- {name}\n{each.log_tail(12)}" for name, each in self.processes.items())
            raise AssertionError(f"{fault}\nledger: {json.dumps(ledger, indent=1)}\n{tails}") from None
        return ledger

    def wait_settled(self, received: int, seconds: float = 120, sent: int | None = None) -> dict[str, Any]:
        """Wait until `received` instances have an end each and, where `sent` is given, that many objects were sent."""

        def settled(ledger: dict[str, Any]) -> bool:
            ended = ledger["done"] + ledger["not_applicable"] + ledger["failed"]
            deliveries = ledger["deliveries"]
            return (
                ledger["received"] >= received
                and ledger["pending"] == 0
                and ended >= received
                and deliveries["pending"] == 0
                and (sent is None or deliveries["sent"] + deliveries["committed"] >= sent)
            )

        return self.wait_ledger(settled, seconds, f"{received} received, each with its end")

    # What it must never do

    def all_logs(self) -> str:
        """Everything that every process has printed."""
        return "".join(each.log_text() for each in self.processes.values())

    def assert_logs_clean(self, sent: Iterable[Radiograph], tracebacks: bool = False) -> None:
        """No log line carries identity of `sent`, nor (unless allowed) a traceback."""
        text = self.all_logs()
        for radiograph in sent:
            for secret in radiograph.secrets:
                assert secret not in text, f"a log line carries identity: {_line_with(secret, text)}"
        if not tracebacks:
            assert TRACEBACK not in text, _line_with(TRACEBACK, text, after=40)


def _line_with(words: str, text: str, after: int = 0) -> str:
    lines = text.splitlines()
    found = next(number for number, line in enumerate(lines) if words in line)
    return "\n".join(lines[max(0, found - 2) : found + 1 + after])


def interrupt_when(process: Process, condition: Callable[[], bool], seconds: float) -> int | None:
    """Wait for `condition` while `process` runs, then stop it as a person does; its exit code."""
    deadline = time.monotonic() + seconds
    while process.running and not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        return process.stop(60)
    return None
