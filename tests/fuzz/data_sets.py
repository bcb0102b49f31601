"""Mutated data sets through arrival and reading: no crash, no hang, no file outside the store, no growing memory."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pydicom.uid import ExplicitVRLittleEndian

from tests.fuzz.judgement import LENGTH
from tests.fuzz.mutations import mutate
from tests.fuzz.seeds import Seed, seeds

LONGEST = 60.0  # seconds a case may take; only there to end what hangs
# of one process over all its cases, once it has seen some: the allocator's own play is a tenth of that
MOST_GROWTH = 200 << 20
WARM = 200
PROCESSES = 2
_KINDS = ("raised", "not read", "read")  # the first that an end's words have in them


@dataclass(frozen=True)
class Finding:
    """A case that did what no input may do; `path` has it, to be run again."""

    case: int
    seed: int
    start: str
    what: str
    path: Path

    def __str__(self) -> str:
        return f"case {self.case} (seed {self.seed}, from {self.start}): {self.what}\n  kept as {self.path}"


@dataclass
class Campaign:
    """What one run has seen."""

    seed: int
    cases: int
    ends: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    slowest: float = 0.0
    growth: int = 0

    def __str__(self) -> str:
        kinds: Counter[str] = Counter()
        for end, count in self.ends.items():
            kinds[next((kind for kind in _KINDS if kind in end), end)] += count
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        return (
            f"{self.cases} data sets, seed {self.seed}: {told}; {len(self.ends)} kinds of end; "
            f"slowest {self.slowest:.2f} s, memory {self.growth / 2**20:+.0f} MiB; {len(self.findings)} findings"
        )


def case(number: int, seed: int) -> tuple[Seed, bytes]:
    """The case of this number: the file it starts from, and its bytes."""
    chance = random.Random(f"data set {seed} {number}")
    start = chance.choice(seeds())
    return start, mutate(start[1], chance)


def fuzz_data_sets(cases: int, seed: int, folder: Path) -> Campaign:
    """Run this many cases through a few processes."""
    campaign = Campaign(seed, cases)
    kept = folder / "findings"
    kept.mkdir(parents=True, exist_ok=True)
    for lane in range(PROCESSES if cases >= PROCESSES * WARM else 1):
        step = PROCESSES if cases >= PROCESSES * WARM else 1
        with _Lane(folder / f"lane-{lane}") as judge:
            for number in range(lane, cases, step):
                start, data = case(number, seed)
                what = judge.ask(campaign, data, _syntax(start[0]))
                if what:
                    path = kept / f"{seed}-{number}.dcm"
                    path.write_bytes(data)
                    campaign.findings.append(Finding(number, seed, start[0], what, path))
            campaign.growth = max(campaign.growth, judge.growth)
            if judge.growth > MOST_GROWTH:
                what = f"memory grew by {judge.growth >> 20} MiB over {judge.asked} cases"
                campaign.findings.append(Finding(-1, seed, "all", what, kept))
            misplaced = judge.misplaced()
            if misplaced:
                campaign.findings.append(Finding(-1, seed, "all", f"files outside the store: {misplaced[:5]}", kept))
    return campaign


def _syntax(start: str) -> str:
    """The presentation context's transfer syntax: what a synthesized file was written in."""
    from pydicom import uid

    named = getattr(uid, start, None)
    return str(named) if isinstance(named, uid.UID) else str(ExplicitVRLittleEndian)


class _Lane:
    """A process that judges one case after the other; a new one where it crashed or hung."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = 0
        self.growth = 0
        self._base = 0
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "cwd").mkdir(parents=True, exist_ok=True)
        self._errors = folder / "errors.txt"

    def __enter__(self) -> _Lane:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def ask(self, campaign: Campaign, data: bytes, syntax: str) -> str:
        """Have one case judged; ``""``, or what it did that it may not do."""
        process = self._process or self._start()
        name = syntax.encode("ascii")
        assert process.stdin is not None
        assert process.stdout is not None
        started = time.monotonic()
        try:
            process.stdin.write(LENGTH.pack(len(data), len(name)) + name + data)
            process.stdin.flush()
        except BrokenPipeError:
            return self._crashed()
        ready, _, _ = select.select([process.stdout], [], [], LONGEST)
        if not ready:
            self._end()
            return f"hung: no end after {time.monotonic() - started:.0f} s"
        line = process.stdout.readline()
        if not line:
            return self._crashed()
        told = json.loads(line)
        self.asked += 1
        if self.asked == WARM:
            self._base = told["rss"]
        if self.asked > WARM:
            self.growth = max(self.growth, told["rss"] - self._base)
        campaign.ends[told["end"]] += 1
        campaign.slowest = max(campaign.slowest, told["seconds"])
        return str(told["fault"])

    def misplaced(self) -> list[str]:
        """Files that lie where none belongs."""
        store = self.folder / "store"
        return [
            str(path)
            for path in self.folder.rglob("*")
            if path.is_file() and path != self._errors and (path.is_relative_to(store) or path.parent.name == "cwd")
        ] + [str(path) for path in (Path("/tmp/escape"),) if path.exists()]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.judgement", str(self.folder / "store")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.folder / "cwd",
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"},
            )
        self.asked = 0
        return self._process

    def _crashed(self) -> str:
        assert self._process is not None
        code = self._process.wait(60)
        self._end()
        told = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"the process died (exit {code}): " + " | ".join(told[:12])

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
