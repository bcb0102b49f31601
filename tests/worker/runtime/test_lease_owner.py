"""A lease's owner can be told dead from alive, and of other machines nothing is claimed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from worker.runtime.lease_owner import is_dead, lease_owner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process start times are read from /proc")


@contextmanager
def another_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    code = "from worker.runtime.lease_owner import lease_owner; print(lease_owner(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_living_owners_are_not_dead_and_killed_ones_are() -> None:
    with another_process() as (process, owner):
        assert not is_dead(lease_owner())
        assert not is_dead(owner)
        process.kill()
        process.wait()
        assert is_dead(owner)


def test_zombie_is_dead() -> None:
    with another_process() as (process, owner):
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it
        assert is_dead(owner)


def test_same_process_number_with_another_start_is_dead() -> None:
    place, _, _started = lease_owner().rpartition("/")
    assert is_dead(f"{place}/1")


@pytest.mark.parametrize("owner", ["otherhost/12345678/pid:[1]/1/1", "", "nonsense"])
def test_of_other_machines_nothing_is_certain(owner: str) -> None:
    assert not is_dead(owner)
