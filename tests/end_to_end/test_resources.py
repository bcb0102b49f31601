"""What it costs: start-up of the command line, memory and readiness of a worker child, the way of one study."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

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


def holds(orthanc: Orthanc, study_instance_uid: str) -> bool:
    """Whether the PACS has anything of the study."""
    return study_instance_uid in orthanc.studies()


def cpu_seconds(arguments: list[str]) -> float:
    """Processor time of a command, which a busy machine hardly changes, unlike the time on the wall."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def help_seconds() -> float:
    """What `--help` may cost: 0.3 s, or where the machine is slow, twice what its libraries alone cost there."""
    libraries = [sys.executable, "-c", "import typer, typer.rich_utils, rich.markdown, rich.traceback"]
    peer = min(cpu_seconds(libraries) for _ in range(5))
    print(f"typer and rich: {peer:.3f} s of processor time")
    return max(HELP_SECONDS, 2 * peer)


def test_help_takes_less_than_three_tenths_of_a_second(help_seconds: float) -> None:
    program = str(Path(sys.executable).parent / "cxr-triage")
    cpu_seconds([program, "--help"])  # byte code is compiled once
    ours = min(cpu_seconds([program, "--help"]) for _ in range(5))
    print(f"--help: {ours:.3f} s of processor time")
    assert ours < help_seconds


@pytest.mark.parametrize("words", [["analyse"], ["worklist"], ["model"], ["listen"], ["work"]], ids=" ".join)
def test_the_help_of_a_command_does_not_load_what_the_command_needs(words: list[str], help_seconds: float) -> None:
    program = str(Path(sys.executable).parent / "cxr-triage")
    cpu_seconds([program, *words, "--help"])
    assert min(cpu_seconds([program, *words, "--help"]) for _ in range(3)) < 2 * help_seconds


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """The PACS of all of them."""
    with Orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Site]:
    """The installation that is measured."""
    with Site(tmp_path_factory.mktemp("site"), pacs=orthanc) as running:
        yield running.start()


def test_a_worker_child_stays_small_while_it_reads_the_largest_films(site: Site, tmp_path: Path) -> None:
    sent = [described(sample("RG1_UNCR")), chest(tmp_path, 50), chest(tmp_path, 51, coding="jpeg2000")]
    for radiograph in sent:
        answer = dcmtk.storescu(site.dicom_port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)
        assert answer.statuses == (0,)
    assert site.wait_settled(len(sent))["done"] == len(sent)
    sizes = [child.memory_info().rss / 1e6 for child in site["work"].children()]
    print(f"worker child: {max(sizes):.0f} MB resident after reading {len(sent)} films")
    assert max(sizes) < CHILD_MEGABYTES


def test_a_killed_child_is_replaced_and_soon_ready(site: Site) -> None:
    def ready() -> list[dict[str, Any]]:
        lines = (line for line in site["work"].log_text().splitlines() if "worker child ready" in line)
        return [json.loads(line) for line in lines]

    before = len(ready())
    site["work"].children()[0].kill()
    took = wait_until(lambda: len(ready()) > before, 60, "a new child")
    used = site["work"].children()[0].cpu_times()
    print(
        f"a killed child was replaced after {took:.1f} s; it was ready in {ready()[-1]['seconds']} s on the wall, "
        f"{used.user + used.system:.1f} s of processor time"
    )
    # of processor time, which other programs on the machine do not lengthen much
    assert used.user + used.system < CHILD_READY_SECONDS


def test_from_acknowledgement_to_heatmap_in_the_pacs(site: Site, orthanc: Orthanc, tmp_path: Path) -> None:
    took = []
    for number in range(6):
        radiograph = chest(tmp_path, number)
        assert dcmtk.storescu(site.dicom_port, [radiograph.path]).statuses == (0,)
        acknowledged = time.monotonic()
        wait_until(partial(holds, orthanc, radiograph.study_instance_uid), 60, "the heatmap in Orthanc", every=0.02)
        took.append(time.monotonic() - acknowledged)
    print(
        f"acknowledgement to heatmap in Orthanc, 6 studies: median {statistics.median(took):.2f} s, "
        f"greatest {max(took):.2f} s (load {psutil.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
    )
    assert statistics.median(took) < 20
