"""JPEG 2000 at the resolution that is enough, beside the same image decoded whole in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from dicom_io.pixels.grayscale import SufficientResolution, read_grayscale
from tests.peers.radiographs import sample

_RUNS = 5


def jpeg2000(_folder: Path) -> Iterator[str]:
    """From file to grayscale image, RG1 (1955 x 1841, 15 bit, lossless), for a tensor of 224 and a heatmap of 1024."""
    whole, enough = [], []
    for _ in range(_RUNS):  # in turn, so that a busy moment meets both
        for times, wanted in ((whole, None), (enough, SufficientResolution(960, 896))):
            started = time.perf_counter()
            shown = read_grayscale(sample("RG1_J2KR"), wanted)
            times.append(time.perf_counter() - started)
    ratio = statistics.median(whole) / statistics.median(enough)
    yield (
        f"decoded {shown.record['resolution']}: {1000 * statistics.median(enough):.0f} ms; whole "
        f"{1000 * statistics.median(whole):.0f} ms; ratio {ratio:.1f}"
    )
