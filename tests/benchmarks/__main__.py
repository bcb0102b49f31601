"""``make bench``: every measurement, one line each. ``make bench ARGS="receiving"`` runs those named."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks import decoding, measurements
from tests.benchmarks.pages import pages
from tests.benchmarks.receiving import receiving

MEASUREMENTS = {
    "receiving": receiving,
    "reading": measurements.reading,
    "jpeg2000": decoding.jpeg2000,
    "latency": measurements.latency,
    "pages": pages,
}


def main(names: list[str]) -> int:
    """Run the named measurements (all where none is named) and print their lines."""
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        print(f"no measurement {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    load = psutil.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} before the start")
    for name in names or MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            started = time.monotonic()
            for line in MEASUREMENTS[name](Path(folder)):
                print(f"{name:10} {line}", flush=True)
            print(f"{name:10} took {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
