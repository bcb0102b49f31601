"""What it costs: start-up of the command line, memory and readiness of a worker child, the way of one study."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.peers import dcmtk
from tests.peers.orthanc import Orthanc
from tests.peers.processes import wait_until
from tests.peers.radiographs import chest, described, sample
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]

HELP_SECONDS = 0.3
CHILD_MEGABYTES = 400
CHILD_READY_SECONDS = 3.0


def holds(orthanc: Orthanc, objects: int) -> bool:
    """Whether the PACS has that many objects."""
    return orthanc.count() >= objects


def cpu_seconds(arguments: list[str]) -> float:
    """Processor time of a command, which a busy machine hardly changes, unlike the time on the wall."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return usage.ru_utime + usage.ru_stime


def test_help_takes_less_than_three_tenths_of_a_second() -> None:
    program = str(Path(sys.executable).parent / "cxr-triage")
    cpu_seconds([program, "--help"])  # byte code is compiled once
    ours = statistics.median(cpu_seconds([program, "--help"]) for _ in range(5))
    bare = statistics.median(cpu_seconds([sys.executable, "-c", "pass"]) for _ in range(5))
    print(f"--help: {ours:.3f} s of processor time; python -c pass: {bare:.3f} s")
    assert ours < HELP_SECONDS


@pytest.mark.parametrize("words", [["analyse"], ["worklist"], ["model"], ["listen"], ["work"]], ids=" ".join)
def test_the_help_of_a_command_does_not_load_what_the_command_needs(words: list[str]) -> None:
    program = str(Path(sys.executable).parent / "cxr-triage")
    cpu_seconds([program, *words, "--help"])
    assert statistics.median(cpu_seconds([program, *words, "--help"]) for _ in range(3)) < 2 * HELP_SECONDS


def test_a_worker_child_is_small_and_soon_ready(site: Site, tmp_path: Path) -> None:
    for radiograph in (described(sample("RG1_UNCR")), described(sample("RG1_J2KR")), chest(tmp_path, 1)):
        answer = dcmtk.storescu(site.dicom_port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)
        assert answer.statuses == (0,)
    site.wait_settled(2)
    ready = [json.loads(line) for line in site["work"].log_text().splitlines() if "worker child ready" in line]
    sizes = [child.memory_info().rss / 1e6 for child in site["work"].children()]
    print(f"worker child: {max(sizes):.0f} MB resident after reading, ready in {ready[0]['seconds']} s")
    assert sizes
    assert max(sizes) < CHILD_MEGABYTES
    assert all(line["seconds"] < CHILD_READY_SECONDS for line in ready)


def test_a_killed_child_is_replaced_and_ready_again(site: Site) -> None:
    def ready() -> int:
        return site["work"].log_text().count("worker child ready")

    before, children = ready(), site["work"].children()
    children[0].kill()
    took = wait_until(lambda: ready() > before, 20, "a new child")
    print(f"a killed child was replaced in {took:.1f} s")


def test_from_acknowledgement_to_heatmap_in_the_pacs(site_with_pacs: Site, orthanc: Orthanc, tmp_path: Path) -> None:
    site, took = site_with_pacs, []
    for number in range(6):
        assert dcmtk.storescu(site.dicom_port, [chest(tmp_path, number).path]).statuses == (0,)
        acknowledged = time.monotonic()
        wait_until(partial(holds, orthanc, number + 1), 60, "the heatmap in Orthanc", every=0.02)
        took.append(time.monotonic() - acknowledged)
    load = psutil.getloadavg()[0]
    print(
        f"acknowledgement to heatmap in Orthanc, 6 studies: median {statistics.median(took):.2f} s, "
        f"greatest {max(took):.2f} s (load {load:.1f} on {os.cpu_count()} cores)"
    )
    assert statistics.median(took) < 20
