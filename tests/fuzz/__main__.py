"""``make fuzz``: 20,000 data sets and as many conversations. ``make fuzz ARGS="--cases 500 --seed 7 pdus"``: others."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.conversations import fuzz_pdus
from tests.fuzz.data_sets import fuzz_data_sets

KINDS = {"data-sets": fuzz_data_sets, "pdus": fuzz_pdus}


def main(words: list[str]) -> int:
    """Run the campaigns; 1 where one has findings, which are kept in a folder that is named."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("kinds", nargs="*", help="data-sets, pdus; both where none is named")
    chosen = parser.parse_args(words)
    if unknown := [kind for kind in chosen.kinds if kind not in KINDS]:
        parser.error(f"no kind {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    warnings.simplefilter("ignore")  # pydicom's, of values that were broken on purpose
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    found = 0
    for kind in chosen.kinds or KINDS:
        print(f"{kind}: {chosen.cases} cases, seed {chosen.seed}, in {folder}", flush=True)
        started = time.monotonic()
        seen = KINDS[kind](chosen.cases, chosen.seed, folder / kind)
        print(f"{seen}; {time.monotonic() - started:.0f} s", flush=True)
        for finding in seen.findings:
            print(f"FOUND {finding}", flush=True)
        found += len(seen.findings)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
