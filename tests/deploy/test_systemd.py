"""The units start our processes in a sandbox that they can work in; systemd itself finds nothing to object to."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.texts import DEPLOY, judge
from tests.peers.processes import Process
from tests.peers.programs import require_peer
from worker.config.settings import load_settings
from worker.queue.broker import queue_lengths, socket_path
from worker.runtime.registered_process import PROCESSES
from worker.tools.reference_docs import pages

UNITS = DEPLOY / "systemd"
SANDBOX = UNITS / "cxr-triage-.service.d" / "sandbox.conf"
INSTALLED = "/opt/cxr-triage/bin/cxr-triage"
SYSTEMD = "apt-get install systemd"
SERVICES = sorted(UNITS.glob("*.service"))


def settings_of(path: Path) -> list[tuple[str, str]]:
    """The (key, value) pairs of a unit's sections, in order; systemd allows a key more than once."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        (key, value)
        for line in lines
        if (pair := line.partition("="))[1] and not line.startswith("#")
        for key, _, value in [pair]
    ]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where the program is: ExecStart names programs that exist."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for unit in folder.glob("*.service"):
        text = unit.read_text(encoding="utf-8").replace(INSTALLED, str(Path(sys.executable).parent / "cxr-triage"))
        unit.write_text(text.replace("/usr/bin/redis-server", require_peer("valkey")), encoding="utf-8")
    return folder


@pytest.mark.peer
def test_systemd_objects_to_nothing(installed: Path) -> None:
    units = sorted(path for path in installed.iterdir() if path.is_file())
    assert len(units) == len(PROCESSES) + 4
    assert judge("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units, install=SYSTEMD) == ""


@pytest.mark.peer
@pytest.mark.parametrize("name", [path.name for path in SERVICES])
def test_sandbox_leaves_little_exposed(installed: Path, name: str) -> None:
    arguments = ("security", "--offline=yes", "--threshold=20", "--no-pager", installed / name)
    assert "Overall exposure level" in judge("systemd-analyze", *arguments, install=SYSTEMD)


def test_every_process_has_its_unit_and_the_target_wants_all() -> None:
    started = {}
    for path in SERVICES:
        (command,) = [value for key, value in settings_of(path) if key == "ExecStart"]
        if command.startswith(INSTALLED):
            started[path.name] = shlex.split(command)[1]
    assert set(started.values()) == {*PROCESSES, "doctor"}
    wanted = " ".join(value for key, value in settings_of(UNITS / "cxr-triage.target") if key == "Wants").split()
    assert set(wanted) == {path.name for path in SERVICES} - {"cxr-triage-doctor.service"} | {"cxr-triage-doctor.timer"}
    for path in SERVICES:
        words = set(re.findall(r"--[a-z]+", " ".join(value for key, value in settings_of(path) if INSTALLED in value)))
        assert all(f"`{word}`" in pages()["cli.md"] for word in words)


def test_running_images_may_finish_before_the_worker_is_killed() -> None:
    unit = dict(settings_of(UNITS / "cxr-triage-work.service"))
    assert unit["KillMode"] == "mixed"  # SIGTERM to the children, too, would end their images
    assert int(unit["TimeoutStopSec"]) > 100


def test_dead_process_of_the_machine_can_still_be_told() -> None:
    sandbox = dict(settings_of(SANDBOX))
    assert sandbox.get("ProcSubset", "all") == "all"  # registered_process reads the boot id of /proc
    assert "PrivatePIDs" not in sandbox


def test_environment_of_the_sandbox_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = dict(settings_of(SANDBOX))
    environment = dict(part.split("=", 1) for part in values["Environment"].split())
    assert (
        environment["CXR_TRIAGE_STORAGE_HOME"] == values["WorkingDirectory"] == f"/var/lib/{values['StateDirectory']}"
    )
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CXR_TRIAGE_CONFIG", str(DEPLOY / Path(environment["CXR_TRIAGE_CONFIG"]).name))
    assert load_settings().home == Path("/var/lib/cxr-triage")


def test_user_of_the_units_is_the_one_that_is_made() -> None:
    (line,) = [line for line in (UNITS / "sysusers.d" / "cxr-triage.conf").read_text().splitlines() if line[0] != "#"]
    kind, name, *_, home = shlex.split(line)
    values = dict(settings_of(SANDBOX))
    assert (kind, name, home) == ("u", values["User"], values["WorkingDirectory"])


@pytest.mark.peer
def test_broker_of_the_unit_is_the_one_our_processes_look_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("h")
    settings = load_settings(home=home)
    (home / "run").mkdir()  # as StateDirectory=cxr-triage/run does
    (command,) = [value for key, value in settings_of(UNITS / "cxr-triage-broker.service") if key == "ExecStart"]
    _program, *words = shlex.split(command.replace("/var/lib/cxr-triage", str(home)))
    assert str(socket_path(home)) in words
    broker = Process("broker", [require_peer("valkey"), *words], home / "broker.log", home)
    broker.start()
    try:
        broker.wait_ready(socket_path(home).exists, 60)
        assert queue_lengths(settings) == {"live": 0, "batch": 0}
    finally:
        broker.stop(5)


def test_drop_in_is_a_unit_file_that_systemd_can_parse() -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.read(SANDBOX, encoding="utf-8")
    assert parser.sections() == ["Unit", "Service"]
