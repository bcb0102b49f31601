"""`up`: all processes on one machine, each a child of its own, stopped in order."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console

from db import models
from model.bundle import BundleInvalid
from worker.broker import start_embedded
from worker.orphans import die_with_parent
from worker.peers import own_peer
from worker.ports import StartFailed, require_port
from worker.registry import activate, list_bundles
from worker.settings import Settings
from worker.site import Site

# in the order they are stopped: nothing new comes in, running images finish, what is made is sent
_PROCESSES = ("listen", "schedule", "work", "deliver", "web")
_READY_SECONDS = 60.0
_STOP_SECONDS = 110.0  # a worker lets its running images finish; Celery's own time limit is shorter


def run_up(site: Site, home: Path | None, config: Path | None, *, demonstrate: bool) -> int:
    """Run until Ctrl-C, SIGTERM, or until a process dies. Returns the exit code."""
    settings = site.settings
    console = Console()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    require_port(settings.dicom.host, settings.dicom.port, "DICOM listener", "[dicom] port")
    require_port(settings.web.host, settings.web.port, "web", "[web] port")
    site.store.free_bytes()  # creates the home folder, or says why it cannot
    with _only_one(settings):
        active = _active_model(site, console)
        if active is None and demonstrate:
            raise StartFailed(
                "no model is active, so nothing could be shown: run 'cxr-triage model activate NAME' (see 'model list')"
            )
        logs = settings.home / "log"
        logs.mkdir(exist_ok=True)
        options = [*(["--home", str(home)] if home else []), *(["--config", str(config)] if config else [])]
        children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            if not settings.broker.url:
                children["broker"] = start_embedded(settings, logs / "broker.log")
            for name in _PROCESSES:
                children[name] = _start(name, options, logs)
            _wait_until_ready(settings, children, logs, stop)
            _say_ready(settings, console, active)
            if demonstrate and not stop.is_set():
                from worker.demonstration import show

                show(site, console, stop)
            return _watch(children, logs, stop, console)
        finally:
            _stop_all(children, console)


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    run = settings.home / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    with (run / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartFailed(f"another 'cxr-triage up' already runs on {settings.home}") from error
        yield


def _active_model(site: Site, console: Console) -> str | None:
    """Return the active model's name; a fresh installation gets the bundle that ships with the program."""
    with site.database.read() as session:
        active = models.active_model(session)
        fresh = not models.any_model_known(session)
    if active is None and fresh:
        for bundle in list_bundles(site.settings):
            if isinstance(bundle, BundleInvalid):
                console.print(f"[yellow]a model cannot be used:[/] {bundle}")
                continue
            console.print(f"first start: activating the model [bold]{bundle.name}[/] that ships with the program")
            return activate(site.settings, site.database, bundle.name).name
    return None if active is None else active.name


def _start(name: str, options: list[str], logs: Path) -> subprocess.Popen[bytes]:
    log: IO[bytes]
    with (logs / f"{name}.log").open("ab") as log:
        # -P: a file named model.py in the current folder must not shadow a room
        arguments = [sys.executable, "-P", "-m", "worker", name, *options]
        # a session of its own, so that Ctrl-C reaches `up` alone and the order of stopping is ours
        return subprocess.Popen(
            arguments, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent
        )


def _wait_until_ready(
    settings: Settings, children: dict[str, subprocess.Popen[bytes]], logs: Path, stop: threading.Event
) -> None:
    from dicom_io.sender import PeerUnreachable, echo

    me = own_peer(settings)
    deadline = time.monotonic() + _READY_SECONDS
    while not stop.is_set():
        for name, child in children.items():
            if child.poll() is not None:
                raise StartFailed(
                    f"{name} stopped at once (exit {child.returncode}): {_last_line(logs / f'{name}.log')}"
                )
        try:
            echo(me)
            return
        except PeerUnreachable as error:
            if time.monotonic() > deadline:
                raise StartFailed(f"the listener did not answer within {_READY_SECONDS:.0f} s: {error}") from error
        stop.wait(0.1)


def _say_ready(settings: Settings, console: Console, active: str | None) -> None:
    console.print(f"DICOM  {settings.dicom.ae_title} on {settings.dicom.host}:{settings.dicom.port}")
    console.print(f"web    http://{settings.web.host}:{settings.web.port}/docs")
    console.print(f"home   {settings.home}  (logs in log/)", soft_wrap=True)
    if active is None:
        console.print("[yellow]no model is active: studies are received and wait[/] ('cxr-triage model activate NAME')")
    else:
        console.print(f"model  {active}")
    if not settings.destinations:
        console.print("no destination is configured: results stay here, on the worklist")


def _watch(children: dict[str, subprocess.Popen[bytes]], logs: Path, stop: threading.Event, console: Console) -> int:
    console.print("running; Ctrl-C stops")
    while not stop.wait(0.5):
        for name, child in children.items():
            if child.poll() is not None:
                console.print(
                    f"[red]{name} died (exit {child.returncode})[/]: {_last_line(logs / f'{name}.log')}", soft_wrap=True
                )
                return 1
    return 0


def _stop_all(children: dict[str, subprocess.Popen[bytes]], console: Console) -> None:
    if not children:
        return
    console.print("stopping: running images are finished first")
    for name in (*_PROCESSES, "broker"):
        child = children.get(name)
        if child is None or child.poll() is not None:
            continue
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            console.print(f"[red]{name} did not stop and was killed[/]")
            child.kill()
            child.wait()
    console.print("stopped")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"see {log}"
