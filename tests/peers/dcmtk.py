"""DCMTK's command line programs as the modality: storescu, echoscu, findscu, and dcmdump as a second reader."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.peers.processes import Process, port_answers
from tests.peers.programs import free_port, require_peer

# What storescu has to be told to propose a compressed file's own transfer syntax.
PROPOSE = {
    "1.2.840.10008.1.2.5": ["-xr"],
    "1.2.840.10008.1.2.4.50": ["-xy"],
    "1.2.840.10008.1.2.4.51": ["-xx"],
    "1.2.840.10008.1.2.4.57": ["-xs"],
    "1.2.840.10008.1.2.4.70": ["-xs"],
    "1.2.840.10008.1.2.4.80": ["-xt"],
    "1.2.840.10008.1.2.4.81": ["-xu"],
    "1.2.840.10008.1.2.4.90": ["-xv"],
    "1.2.840.10008.1.2.4.91": ["-xw"],
}


@dataclass(frozen=True)
class Answer:
    """What a DCMTK client was told. `statuses` are the DIMSE statuses of its responses, in order."""

    exit_code: int
    statuses: tuple[int, ...]
    output: str

    @property
    def acknowledged(self) -> int:
        """How many responses were 0x0000."""
        return self.statuses.count(0)

    @property
    def association_refused(self) -> bool:
        """Whether no association came to be."""
        return "Association Rejected" in self.output or "Association Request Failed" in self.output


def storescu(
    port: int,
    files: Sequence[Path],
    *,
    called: str = "CXRTRIAGE",
    calling: str = "MODALITY",
    transfer_syntax: str | None = None,
    seconds: float = 120,
    tls: Sequence[str] = (),
) -> Answer:
    """Send files over one association; goes on after a refused one. `tls` as its manual page has it."""
    arguments = ["-d", "--no-halt", "-aet", calling, "-aec", called, "-to", "60", "-td", "60", *tls]
    arguments += PROPOSE.get(transfer_syntax or "", [])
    return _run("storescu", [*arguments, "127.0.0.1", str(port), *map(str, files)], seconds)


def echoscu(port: int, *, called: str = "CXRTRIAGE", calling: str = "MODALITY", tls: Sequence[str] = ()) -> Answer:
    """Verify with C-ECHO."""
    return _run("echoscu", ["-d", *tls, "-aet", calling, "-aec", called, "-to", "60", "127.0.0.1", str(port)], 90)


def findscu(port: int, keys: Sequence[str], *, called: str, calling: str = "MODALITY") -> Answer:
    """Query at study root; `keys` as findscu writes them (``0008,0052=STUDY``)."""
    words = [word for key in keys for word in ("-k", key)]
    return _run("findscu", ["-d", "-S", "-aet", calling, "-aec", called, *words, "127.0.0.1", str(port)], 60)


def dcmdump(file: Path, *tags: str) -> str:
    """The values that DCMTK reads from a file, one line an element, UTF-8."""
    words = [word for tag in tags for word in ("+P", tag)]
    arguments = [require_peer("dcmdump"), "+U8", "--load-short", *words, str(file)]
    done = subprocess.run(arguments, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode("utf-8")


class Storescp:
    """DCMTK's storescp, receiving into a folder; the benchmark's peer. Use as a context manager."""

    def __init__(self, folder: Path, tls: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.folder = folder
        arguments = [require_peer("storescp"), "-aet", "STORESCP", "-od", str(folder), "+xa", *tls, str(self.port)]
        self.process = Process("storescp", arguments, folder.with_suffix(".log"), folder)

    def __enter__(self) -> Storescp:
        self.process.start()
        self.process.wait_ready(lambda: port_answers(self.port), 60)
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop(2)


def _run(program: str, arguments: Sequence[str], seconds: float) -> Answer:
    done = subprocess.run(
        [require_peer(program), *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
    )
    output = (done.stdout + done.stderr).decode("utf-8", errors="replace")
    statuses = tuple(int(found, 16) for found in re.findall(r"DIMSE Status\s*:\s*0x([0-9a-fA-F]{4})", output))
    return Answer(done.returncode, statuses, output)
