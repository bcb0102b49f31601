"""A full disk, a database that does not answer: the sender is told "out of resources", and nothing is half there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.peers import dcmtk
from tests.peers.processes import wait_until
from tests.peers.radiographs import chest
from tests.peers.raw_dicom import store_bytes
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One installation: each of these must leave it working for the next."""
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running.start()


def out_of_resources(status: int | None) -> bool:
    """Whether the sender was told to try again later (PS3.4 Table B.2-1: A7xx)."""
    return status is not None and 0xA700 <= status <= 0xA7FF


def received_files(site: Site) -> list[Path]:
    """Every file below the home folder that is large enough to be (half of) a radiograph."""
    return [each for each in site.home.rglob("*") if each.is_file() and each.stat().st_size > 500_000]


def database_file(site: Site) -> Path:
    """The SQLite file of an installation."""
    return next(iter(site.home.glob("*.sqlite")))


@contextlib.contextmanager
def largest_file(pid: int, size: int) -> Iterator[None]:
    """No file that the process writes may grow past `size` bytes; what lies beyond fails as on a full disk."""
    process = psutil.Process(pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="limits of a running process: Linux only")
def test_an_image_that_cannot_be_written_is_out_of_resources_and_succeeds_later(site: Site, tmp_path: Path) -> None:
    radiograph, before, files = chest(tmp_path, 1), site.ledger(), received_files(site)
    with largest_file(site["listen"].pid, 1_000_000):
        answer = dcmtk.storescu(site.dicom_port, [radiograph.path])
        assert len(answer.statuses) == 1, answer.output
        assert out_of_resources(answer.statuses[0])
        assert dcmtk.echoscu(site.dicom_port).exit_code == 0
    assert received_files(site) == files
    assert site.ledger()["received"] == before["received"]
    assert dcmtk.storescu(site.dicom_port, [radiograph.path]).statuses == (0,)
    assert site.wait_settled(before["received"] + 1)["done"] == before["done"] + 1


def test_a_disk_that_is_full_is_out_of_resources_and_works_again_when_it_is_not(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("a small file system to fill: needs root and the right to mount")
    try:
        whole_disk = "[storage]\nminimum_free_gigabytes = 0\n"  # here the disk itself says that it is full
        with Site(tmp_path / "site", home=small / "home", more=whole_disk) as site:
            site.start("listen")
            assert dcmtk.storescu(site.dicom_port, [chest(tmp_path / "in", 1).path]).statuses == (0,)
            before = received_files(site)
            ballast = small / "ballast"
            with ballast.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * 65536)
                    file.flush()
            late = chest(tmp_path / "in", 2)
            answer = dcmtk.storescu(site.dicom_port, [late.path])
            assert answer.statuses, answer.output
            assert out_of_resources(answer.statuses[0])
            assert received_files(site) == [*before, ballast] or set(received_files(site)) == set(before)
            ballast.unlink()
            assert site.ledger()["received"] == 1
            assert dcmtk.storescu(site.dicom_port, [late.path]).statuses == (0,)
            assert site.ledger()["received"] == 2
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=False)


def test_a_locked_database_is_out_of_resources_and_leaves_no_row(site: Site, tmp_path: Path) -> None:
    radiograph, before = chest(tmp_path, 3), site.ledger()
    data = radiograph.path.read_bytes()
    whole = data[data.index(b"\x08\x00\x05\x00CS") :]
    blocker = sqlite3.connect(database_file(site), isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        assert out_of_resources(store_bytes(site.dicom_port, whole, radiograph.sop_instance_uid))
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    assert site.ledger()["received"] == before["received"]
    assert dcmtk.storescu(site.dicom_port, [radiograph.path]).statuses == (0,)
    assert site.wait_settled(before["received"] + 1)["done"] == before["done"] + 1


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="limits of a running process: Linux only")
def test_a_heatmap_that_cannot_be_written_is_made_later_and_not_counted_against_the_image(
    site: Site, tmp_path: Path
) -> None:
    before = site.ledger()
    # below a heatmap's 3 MB, above what the database's own files have grown to
    limits = [largest_file(child.pid, 2_000_000) for child in site["work"].children()]
    with contextlib.ExitStack() as stack:
        for limit in limits:
            stack.enter_context(limit)
        assert dcmtk.storescu(site.dicom_port, [chest(tmp_path, 5).path]).statuses == (0,)
        wait_until(lambda: "given back" in site["work"].log_since_start(), 60, "the worker notices")
        ledger = site.ledger()
        assert (ledger["done"], ledger["failed"]) == (before["done"], before["failed"])
        assert ledger["pending"] == 1
        assert ledger["unfinished"][0]["reason"], ledger
    assert site.wait_settled(before["received"] + 1)["done"] == before["done"] + 1
