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

CHILD_MEGABYTES = 400


def holds(orthanc: Orthanc, study_instance_uid: str) -> bool:
    """Whether the PACS has anything of the study."""
    return study_instance_uid in orthanc.studies()


_HELP = """
import sys
from worker.__main__ import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end
heavy = "alembic celery cv2 fastapi keras numpy openvino pydantic_settings pydicom pynetdicom redis sqlalchemy".split()
print("loaded:", sorted(set(heavy) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "words", [[], ["analyse"], ["worklist"], ["model"], ["model", "import"], ["listen"], ["work"]], ids=" ".join
)
def test_help_loads_nothing_that_a_command_needs(words: list[str]) -> None:
    arguments = [sys.executable, "-c", _HELP, *words, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stdout + done.stderr


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


def test_a_worker_child_stays_small_while_it_reads_the_largest_images(site: Site, tmp_path: Path) -> None:
    sent = [described(sample("RG1_UNCR")), chest(tmp_path, 50), chest(tmp_path, 51, coding="jpeg2000")]
    for radiograph in sent:
        answer = dcmtk.storescu(site.dicom_port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)
        assert answer.statuses == (0,)
    assert site.wait_settled(len(sent))["done"] == len(sent)
    sizes = [child.memory_info().rss / 1e6 for child in site["work"].children()]
    print(f"worker child: {max(sizes):.0f} MB resident after reading {len(sent)} images")
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
    assert len(orthanc.studies()) >= len(took)
