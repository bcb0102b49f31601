"""What is measured, and against whom."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.peers import dcmtk
from tests.peers.orthanc import Orthanc
from tests.peers.processes import wait_until
from tests.peers.radiographs import chest, chests
from tests.peers.site import Site

READ = 40
CHILDREN = 2
LATENCIES = 10


def reading(folder: Path) -> Iterator[str]:
    """Stored images to stored results and heatmaps, two children, against a plain loop with the network in Keras."""
    radiographs = list(chests(folder / "in", READ))
    with Site(folder / "site", children=CHILDREN) as site:
        site.start("listen")
        for radiograph in radiographs:
            answer = dcmtk.storescu(site.dicom_port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)
            assert answer.statuses == (0,), answer.output[-1000:]
        site["web"].start()
        site.wait_ready("web")
        site["work"].start()
        site.wait_ready("work")
        started, already = time.monotonic(), site.ledger_by_web()["done"]
        site["schedule"].start()
        site.wait_ledger(lambda now: now["done"] == READ, 600, "all read")
        ours = (READ - already) / (time.monotonic() - started)
    loop = Path(__file__).with_name("keras_loop.py")
    done = subprocess.run(
        [sys.executable, str(loop), *(str(each.path) for each in radiographs[:12])],
        capture_output=True,
        check=True,
        timeout=600,
    )
    theirs = float(done.stdout.decode().split()[-1])
    yield (
        f"{ours:.1f} images/s with {CHILDREN} children, from stored image to stored result and heatmap; plain "
        f"pydicom + cv2 + Keras predict + GradientTape {theirs:.2f} images/s; ratio {ours / theirs:.1f}"
    )


def latency(folder: Path) -> Iterator[str]:
    """From the modality's acknowledgement to the heatmap in Orthanc, one study at a time, beside a plain C-STORE."""
    with Orthanc(folder / "orthanc") as orthanc, Site(folder / "site", pacs=orthanc) as site:
        site.start()
        ours, theirs = [], []
        for number in range(LATENCIES):
            image, other = chest(folder / "in", number), chest(folder / "other", number)
            started = time.monotonic()
            assert dcmtk.storescu(orthanc.dicom_port, [other.path], called=orthanc.ae_title).statuses == (0,)
            theirs.append(time.monotonic() - started)
            assert dcmtk.storescu(site.dicom_port, [image.path]).statuses == (0,)
            acknowledged = time.monotonic()
            wait_until(partial(_arrived, orthanc, image.study_instance_uid), 60, "the heatmap", every=0.02)
            ours.append(time.monotonic() - acknowledged)
    yield (
        f"median {statistics.median(ours):.2f} s, greatest {max(ours):.2f} s from acknowledgement to heatmap in "
        f"Orthanc; a plain C-STORE of the image to Orthanc {statistics.median(theirs):.2f} s"
    )


def _arrived(orthanc: Orthanc, study_instance_uid: str) -> bool:
    return study_instance_uid in orthanc.studies()
