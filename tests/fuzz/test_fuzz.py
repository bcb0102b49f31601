"""A thousand of each kind in every run of the tests, always the same; ``make fuzz`` runs twenty thousand new ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.conversations import GOOD_EVERY, fuzz_pdus
from tests.fuzz.data_sets import case, fuzz_data_sets

CASES = int(os.environ.get("FUZZ_CASES", "1000"))
SEED = 2026


@pytest.mark.filterwarnings("ignore")
def test_no_data_set_crashes_hangs_escapes_or_fills_memory(tmp_path: Path) -> None:
    campaign = fuzz_data_sets(CASES, SEED, tmp_path)
    print(campaign)
    assert not campaign.findings, "\n".join(map(str, campaign.findings[:5]))
    # a fuzzer whose cases all fail at the first byte would prove nothing
    read = sum(count for end, count in campaign.ends.items() if end.endswith(" read") and "not read" not in end)
    assert read > CASES // 20
    assert len(campaign.ends) > 40


def test_a_file_outside_the_store_would_be_seen(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from tests.fuzz.judgement import WatchedWrites
folder = Path(sys.argv[1])
writes = WatchedWrites(folder / "store")
(folder / "store").mkdir()
(folder / "store" / "a").write_bytes(b"")
(folder / "store" / "a").read_bytes()
Path(sys.executable).read_bytes()
assert writes.take() == ""
for write in (
    lambda: (folder / "b").write_bytes(b""),
    lambda: (folder / "store" / ".." / "c").mkdir(),
    lambda: (folder / "store" / "a").rename(folder / "d"),
    lambda: (folder / "d").open("r+b").close(),
    lambda: os.open(folder / "e", os.O_CREAT),
):
    write()
    assert str(folder) in writes.take(), write
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)


@pytest.mark.peer
@pytest.mark.end_to_end
def test_no_conversation_kills_blocks_or_fills_the_listener(tmp_path: Path) -> None:
    exchange = fuzz_pdus(CASES, SEED, tmp_path)
    print(exchange)
    assert not exchange.findings, "\n".join(exchange.findings[:5])
    assert exchange.good == -(-CASES // GOOD_EVERY)
    assert {"accepted", "aborted"} <= {word for end in exchange.ends for word in end.split(" and ")}


@pytest.mark.filterwarnings("ignore")
def test_a_case_is_the_same_whenever_it_is_asked_for() -> None:
    assert [case(number, 5) for number in range(20)] == [case(number, 5) for number in range(20)]
