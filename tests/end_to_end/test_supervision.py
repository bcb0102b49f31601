"""`up` keeps its processes alive, says what it does, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.peers.processes import wait_until
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]
NAMES = ("listen", "work", "deliver", "schedule", "web")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as site:
        site.activate_model()
        site["up"].start()
        wait_until(lambda: "Ctrl-C stops" in site["up"].log_text(), 90, "up is ready")
        work = site.home / "log" / "work.log"
        wait_until(lambda: "worker child ready" in work.read_text(encoding="utf-8"), 60, "a child is ready")
        yield site


def family(site: Site) -> dict[str, psutil.Process]:
    """The processes that `up` keeps, by name."""
    found = {}
    for process in psutil.Process(site["up"].pid).children():
        words = process.cmdline()
        found.update({name: process for name in NAMES if name in words})
    return found


def test_a_killed_process_is_started_again_and_both_are_said(running: Site) -> None:
    for name in ("deliver", "listen", "work"):
        before = family(running)[name]
        before.kill()
        wait_until(lambda name=name: f"{name} started again" in running["up"].log_text(), 60, f"{name} is back")  # type: ignore[misc]
        assert f"{name} died (signal 9), starting it again in 1 s" in running["up"].log_text()
        assert family(running)[name].pid != before.pid
    wait_until(lambda: running.run("echo").exit_code == 0, 60, "the listener answers again")


def test_a_request_to_stop_ends_everything_in_order(running: Site) -> None:
    everyone = psutil.Process(running["up"].pid).children(recursive=True)
    assert len(everyone) > len(NAMES)
    os.kill(running["up"].pid, signal.SIGINT)
    wait_until(lambda: not running["up"].running, 60, "up ends")
    assert running["up"].stop(60) == 0
    _gone, alive = psutil.wait_procs(everyone, timeout=60)
    assert alive == []
    assert running["up"].log_text().rstrip().endswith("stopped")


def test_nothing_is_left_when_up_itself_is_killed(running: Site) -> None:
    everyone = psutil.Process(running["up"].pid).children(recursive=True)
    running["up"].kill_alone()
    _gone, alive = psutil.wait_procs(everyone, timeout=60)
    assert alive == []


def test_a_second_up_on_the_same_home_says_so_and_the_first_goes_on(running: Site) -> None:
    second = running.run("up")
    assert second.exit_code == 1
    assert second.stderr.strip() == f"cxr-triage: another 'cxr-triage up' already runs on {running.home}"
    assert running["up"].running
    assert all(process.is_running() for process in family(running).values())
