"""An image that crashes its decoder, or hangs in it, ends as failed with the reason; the worker goes on reading."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.peers import dcmtk, poison
from tests.peers.processes import Process
from tests.peers.radiographs import chest
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]

LIMIT = 4
# the worker's own way in, with decoders that crash and hang, and less patience
_WORKER = f"""
import worker.timing
worker.timing.ANALYSIS_TIME_LIMIT = {LIMIT}
from tests.peers import poison
poison.install()
from worker.__main__ import main
main()
"""


def test_a_decoder_that_crashes_or_hangs_costs_one_image_and_never_the_worker(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        words = [sys.executable, "-c", _WORKER, *site.command("work")[1:]]
        site.processes["work"] = Process("work", words, site.logs / "work.log", Path.cwd(), site.environment())
        site.start("listen", "schedule", "web", "work")
        worker = site["work"].pid
        poisoned = {
            chest(tmp_path / "in", number, Rows=rows).path: rows
            for number, rows in enumerate((poison.CRASHES, poison.HANGS))
        }
        good = [chest(tmp_path / "in", number).path for number in range(3, 6)]
        assert dcmtk.storescu(site.dicom_port, [*poisoned, *good]).acknowledged == 5
        ledger = site.wait_ledger(lambda now: now["done"] == 3 and now["failed"] == 2, 150, "each has its end")
        assert sorted(entry["reason"] for entry in ledger["unfinished"]) == [
            f"stopped after 3 attempts: it did not end within {LIMIT} s, so its process was stopped",
            "stopped after 3 attempts: its process died: signal 11 (SIGSEGV)",
        ]
        assert site["work"].pid == worker
        assert site["work"].running
        # who comes next is read as if nothing had been
        assert dcmtk.storescu(site.dicom_port, [chest(tmp_path / "in", 6).path]).acknowledged == 1
        site.wait_ledger(lambda now: now["done"] == 4, 60, "the next image is read")
