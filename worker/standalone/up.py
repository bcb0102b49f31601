"""`up`: starts all processes on one machine, supervises them, and shows their status."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from db.model_registry import activation
from model.bundle.bundle import BundleInvalid
from worker.analysis.codec_check import check_codecs
from worker.config.certificates import require_destination_certificates, require_listener_certificate
from worker.config.dicom_peers import own_peer
from worker.config.settings import Settings
from worker.installation import Site
from worker.model_registry.active_models import active_table, vanished
from worker.model_registry.bundles import activate, follow_moved, list_bundles
from worker.queue.embedded_server import start_embedded
from worker.runtime.parent_death import die_with_parent
from worker.runtime.ports import StartFailed, require_port
from worker.runtime.signals import stop_event
from worker.runtime.terminal_text import marked
from worker.standalone.dashboard import watch
from worker.standalone.supervisor import Program, Supervisor, last_line

# stopping order: intake first, then running analyses finish, then their objects are sent
_PROCESSES = ("listen", "schedule", "work", "deliver", "web")
_READY_SECONDS = 60.0


def run_up(site: Site, home: Path | None, config: Path | None, *, demonstrate: bool) -> int:
    """Run until Ctrl-C or SIGTERM; a second one ends everything at once. Returns the exit code."""
    settings = site.settings
    console = Console()
    require_listener_certificate(settings, site.clock())
    require_destination_certificates(settings)
    site.store.free_bytes()  # creates the home folder, or raises with the reason
    with _only_one(settings):
        require_port(settings.dicom.host, settings.dicom.port, "DICOM listener", "[dicom] port")
        require_port(settings.web.host, settings.web.port, "web", "[web] port")
        for key, port in (("[dicom] port", settings.dicom.port), ("[web] port", settings.web.port)):
            if port == 0:
                raise StartFailed(
                    f"{key} is 0 (any free port): 'up' needs a fixed port, 1 to 65535, that others can connect to"
                )
        active = _active_names(site, console)
        if active is None and demonstrate:
            raise StartFailed(
                "no model is active, so the demonstration would have no result: "
                "run 'cxr-triage model activate NAME' (see 'cxr-triage model list')"
            )
        for problem in check_codecs().broken:
            console.print(f"[yellow]not decoded on this machine:[/] {marked(problem)}")
        logs = settings.home / "log"
        logs.mkdir(exist_ok=True)
        options = [*(["--home", str(home)] if home else []), *(["--config", str(config)] if config else [])]
        supervisor = Supervisor(_programs(settings, options, logs), (*_PROCESSES, "broker"), _Sayer(console))
        if settings.broker.url:
            supervisor.stopping_order = _PROCESSES
        stop = stop_event(on_repeated=supervisor.kill)  # a second Ctrl-C ends everything at once
        try:
            supervisor.start()
            _wait_until_ready(settings, supervisor, stop)
            _say_ready(settings, console, active)
            if demonstrate and not stop.is_set():
                from worker.standalone.demonstration import show

                show(site, console, stop)
            watch(site, supervisor, stop, console)
            return 0
        finally:
            console.print("stopping: running analyses are finished first")
            supervisor.stop()
            console.print("stopped")


def _programs(settings: Settings, options: list[str], logs: Path) -> list[Program]:
    programs = [_program(name, options, logs) for name in _PROCESSES]
    if not settings.broker.url:
        log = logs / "broker.log"
        programs.insert(0, Program("broker", log, lambda: start_embedded(settings, log)))
    return programs


def _program(name: str, options: list[str], logs: Path) -> Program:
    path = logs / f"{name}.log"

    def start() -> subprocess.Popen[bytes]:
        # -P: a file named model.py in the current folder must not shadow a package
        arguments = [sys.executable, "-P", "-m", "worker", name, *options]
        with path.open("ab") as log:
            # a separate session: Ctrl-C reaches `up` alone, which then stops the processes in order
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    return Program(name, path, start)


class _Sayer:
    """Prints the events of the supervisor, with the time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, text: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {marked(text)}", soft_wrap=True, highlight=False)


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


def _active_names(site: Site, console: Console) -> str | None:
    """Return the active models' names; a fresh installation gets the bundle that ships with the program."""
    with site.database.read() as session:
        active = activation.active_models(session)
        fresh = not activation.any_model_known(session)
    if not active and fresh:
        for bundle in list_bundles(site.settings):
            if isinstance(bundle, BundleInvalid):
                console.print(f"[yellow]a model cannot be used:[/] {marked(str(bundle))}")
                continue
            console.print(
                f"first start: activating the model [bold]{marked(bundle.name)}[/] that ships with the program"
            )
            activate(site, bundle.name, only_first=True)
            with site.database.read() as session:  # another process may have activated one meanwhile: it stays
                active = activation.active_models(session)
            break
    for bundle in follow_moved(site):
        console.print(f"model [bold]{marked(bundle.name)}[/] is read from {marked(str(bundle.folder))} now")
    for model in vanished(active_table(site)):
        console.print(
            f"[yellow]the bundle of {marked(model.name)} is gone from {marked(model.folder)}: what it reads waits[/] "
            "(bring it back, or 'cxr-triage model activate NAME' with another)"
        )
    return active.name or None


def _wait_until_ready(settings: Settings, supervisor: Supervisor, stop: threading.Event) -> None:
    from dicom_io.network.association import PeerUnreachable
    from dicom_io.send.storage_scu import echo

    me = own_peer(settings)
    deadline = time.monotonic() + _READY_SECONDS
    while not stop.is_set():
        dead = supervisor.first_dead()
        if dead is not None:
            code = "not started" if dead.process is None else f"exit {dead.process.returncode}"
            raise StartFailed(f"{dead.program.name} stopped at once ({code}): {last_line(dead.program.log)}")
        try:
            echo(me)
            return
        except PeerUnreachable as error:
            if time.monotonic() > deadline:
                raise StartFailed(f"the listener did not answer within {_READY_SECONDS:.0f} s: {error}") from error
        stop.wait(0.1)


def _say_ready(settings: Settings, console: Console, active: str | None) -> None:
    console.print(f"DICOM  {settings.dicom.ae_title} on {settings.dicom.host}:{settings.dicom.port}", markup=False)
    console.print(f"web    http://{settings.web.host}:{settings.web.port}/", markup=False)
    console.print(f"home   {settings.home}  (logs in log/)", soft_wrap=True, markup=False)
    if active is None:
        console.print("[yellow]no model is active: studies are received and wait[/] ('cxr-triage model activate NAME')")
    else:
        console.print(f"model  {active}", markup=False)
    for place in settings.destinations:
        console.print(f"sends  to {place.name}: {place.address}", soft_wrap=True)
    if not settings.destinations:
        console.print("no destination is configured: results stay here, on the worklist")
