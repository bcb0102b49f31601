"""The receivers that are compared: each started alone, empty, with its CPU time counted over all its processes."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.peers.orthanc import Orthanc
from tests.peers.processes import Process, port_answers
from tests.peers.programs import free_port, require_peer
from tests.peers.site import Site


@dataclass(frozen=True)
class Receiver:
    """A running C-STORE SCP.

    Attributes
    ----------
    sync
        Whether what it wrote is to be synced for it, within the measured time, because it does not do so itself.
    folder
        Everything it writes is below it.
    """

    called: str
    port: int
    process: Process
    folder: Path
    sync: bool = False

    def cpu_seconds(self) -> float:
        """User and system time of the process, its children, and of its children that have ended, reaped or not."""
        total, process = 0.0, psutil.Process(self.process.pid)
        for each in (process, *process.children(recursive=True)):
            try:
                used = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += used.user + used.system + used.children_user + used.children_system
        return total

    def settle(self) -> None:
        """Wait until it does nothing: what is loaded at the first object is no part of the others' cost."""
        last = -1.0
        while (used := self.cpu_seconds()) != last:
            last = used
            time.sleep(0.5)

    def make_durable(self) -> None:
        """Sync every file that was received and its folder, where the receiver does not."""
        if not self.sync:
            return
        for path in (*self.folder.iterdir(), self.folder):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


@contextmanager
def ours(folder: Path, more: str = "", *, library_decoder: bool = False) -> Iterator[Receiver]:
    """`cxr-triage listen`: file, folder and rows synced before each answer; SQLite."""
    with Site(folder, more=more) as site:
        site.activate_model()
        if library_decoder:
            listen = site["listen"]
            listen.arguments[:1] = [sys.executable, "-m", "tests.benchmarks.library_decoder"]
            listen.cwd = Path(__file__).parents[2]
        site["listen"].start()
        site.wait_ready("listen")
        yield Receiver(site.ae_title, site.dicom_port, site["listen"], site.home)


@contextmanager
def storescp(folder: Path, *, sync: bool = False) -> Iterator[Receiver]:
    """DCMTK's storescp as fast as it goes: a process an association, data sets written as they came, never synced."""
    folder.mkdir(parents=True)
    port = free_port()
    arguments = [require_peer("storescp"), "-q", "--fork", "--bit-preserving", "+xa", "-aet", "STORESCP"]
    process = Process("storescp", [*arguments, "-od", str(folder), str(port)], folder.with_suffix(".log"), folder)
    process.start()
    try:
        process.wait_ready(partial(port_answers, port), 10)
        yield Receiver("STORESCP", port, process, folder, sync)
    finally:
        process.stop(2)


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    """Orthanc with its own defaults, which sync each file (SyncStorageArea), quiet, and a thread an association."""
    peer = Orthanc(folder)
    configuration = folder / "orthanc.json"
    settings = json.loads(configuration.read_text(encoding="utf-8"))
    configuration.write_text(
        json.dumps({**settings, "LuaScripts": [], "DicomThreadsCount": 8, "SyncStorageArea": True}), encoding="utf-8"
    )
    peer.process.arguments.remove("--verbose")
    peer.process.start()
    try:
        peer.process.wait_ready(lambda: re.search("Orthanc has started", peer.process.log_text()) is not None, 30)
        yield Receiver(peer.ae_title, peer.dicom_port, peer.process, folder)
    finally:
        peer.process.stop(5)
