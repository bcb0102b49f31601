"""Real senders under backpressure: 0xA7xx while it lasts, success when it has ended, and nobody resets anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.peers import dcmtk
from tests.peers.radiographs import chest, chests
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


def test_backlog_without_a_worker_is_out_of_resources_until_one_reads(tmp_path: Path) -> None:
    sent = [each.path for each in chests(tmp_path / "in", 3)]
    with Site(tmp_path / "site", more="[intake]\nmaximum_backlog = 2\n") as site:
        site.start("listen", "web")
        syntaxes = [dcmtk.storescu(site.dicom_port, [path]).statuses for path in sent[:2]]
        assert syntaxes == [(0,), (0,)]
        last = chest(tmp_path / "last", 7)
        assert dcmtk.storescu(site.dicom_port, [last.path]).statuses == (0xA700,)
        assert dcmtk.echoscu(site.dicom_port).exit_code == 0
        status = site.run("status", "--json")
        assert status.exit_code == 1
        assert "maximum_backlog" in status.json()["receiving"]
        ledger = site.ledger()
        assert (ledger["received"], ledger["rejected"]) == (2, 1)
        site.activate_model()
        for name in ("work", "schedule"):
            site[name].start()
        site.wait_settled(2)
        assert dcmtk.storescu(site.dicom_port, [last.path]).statuses == (0,)
        assert site.wait_settled(3)["done"] == 3
        assert site.run("status", "--json").json()["receiving"] == "ok"


def test_free_space_below_the_floor_is_out_of_resources_until_there_is_room(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(small)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("a small file system to fill: needs root and the right to mount")
    try:
        with Site(tmp_path / "site", home=small / "home", more="[storage]\nminimum_free_gigabytes = 0.03\n") as site:
            site.start("listen")
            assert dcmtk.storescu(site.dicom_port, [chest(tmp_path / "in", 1).path]).statuses == (0,)
            ballast = small / "ballast"
            ballast.write_bytes(b"\0" * 40_000_000)
            late = chest(tmp_path / "in", 2)
            assert dcmtk.storescu(site.dicom_port, [late.path]).statuses == (0xA700,)
            assert "minimum_free_gigabytes" in site.run("status", "--json").json()["receiving"]
            assert site.ledger()["rejected"] == 1, "there is still room to say so"
            ballast.unlink()
            assert dcmtk.storescu(site.dicom_port, [late.path]).statuses == (0,)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=False)
