"""As many workers as the process may use: a container with two of 64 cores starts two, not 64."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.runtime.cores import usable_cores


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def test_cores_that_the_process_is_bound_to(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("", 8)]
)
def test_quota_of_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    write(tmp_path / "sys/fs/cgroup/cpu.max", quota + "\n")
    assert usable_cores(tmp_path) == cores


def test_the_smallest_quota_of_the_groups_above_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/machine.slice/worker.service\n")
    write(tmp_path / "sys/fs/cgroup/machine.slice/cpu.max", "300000 100000\n")
    write(tmp_path / "sys/fs/cgroup/machine.slice/worker.service/cpu.max", "600000 100000\n")
    assert usable_cores(tmp_path) == 3


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("inside", ["docker/4f1c", ""])
def test_quota_of_version_1_also_where_the_groups_own_name_is_not_seen(
    tmp_path: Path, folder: str, inside: str
) -> None:
    write(tmp_path / "proc/self/cgroup", "12:memory:/docker/4f1c\n4:cpu,cpuacct:/docker/4f1c\n0::/docker/4f1c\n")
    write(tmp_path / "sys/fs/cgroup" / folder / inside / "cpu.cfs_quota_us", "400000\n")
    write(tmp_path / "sys/fs/cgroup" / folder / inside / "cpu.cfs_period_us", "100000\n")
    assert usable_cores(tmp_path) == 4
    write(tmp_path / "sys/fs/cgroup" / folder / inside / "cpu.cfs_quota_us", "-1\n")
    assert usable_cores(tmp_path) == 8
