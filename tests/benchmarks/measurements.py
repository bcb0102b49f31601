"""What is measured, and against whom."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.peers import dcmtk
from tests.peers.orthanc import Orthanc
from tests.peers.processes import wait_until
from tests.peers.radiographs import chest, chests, sample
from tests.peers.site import Site

RECEIVED = 24
READ = 40
CHILDREN = 2
LATENCIES = 10


def receiving(folder: Path) -> Iterator[str]:
    """Images of 7.2 MB over one association: our listener (fsync, rows, answer) against DCMTK's storescp (file)."""
    files = []
    for number in range(RECEIVED):
        image = dcmread(sample("RG1_UNCR"))
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
        files.append(folder / f"{number}.dcm")
        image.save_as(files[-1])
    megabytes = sum(each.stat().st_size for each in files) / 1e6

    def rate(port: int, called: str) -> float:
        started = time.monotonic()
        answer = dcmtk.storescu(port, files, called=called, seconds=300)
        assert answer.acknowledged == RECEIVED, answer.output[-1000:]
        return RECEIVED / (time.monotonic() - started)

    with dcmtk.Storescp(folder / "storescp") as peer, Site(folder / "site") as site:
        site.start("listen")
        theirs, ours = [], []
        for _ in range(2):  # in turn, so that a busy moment meets both
            theirs.append(rate(peer.port, "STORESCP"))
            ours.append(rate(site.dicom_port, site.ae_title))
    # the second time ours has every image already and says so without a second copy: only the first counts
    yield (
        f"{ours[0]:.1f} images/s ({ours[0] * megabytes / RECEIVED:.0f} MB/s), durable; storescp "
        f"{statistics.mean(theirs):.1f} images/s, not durable; ratio {ours[0] / statistics.mean(theirs):.2f}"
    )
    yield f"{ours[1]:.1f} images/s where the images are known already"


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
