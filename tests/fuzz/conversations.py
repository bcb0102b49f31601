"""Mutated PDUs against a real listener, many conversations at once, with good senders among them."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydicom.uid import generate_uid

from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.send.storage_scu import Outgoing, echo, send
from tests.dicom_io.images import dicom_file
from tests.fuzz.pdus import Conversation, conversation
from tests.peers.processes import wait_until
from tests.peers.site import TRACEBACK, Site

LONGEST = 60.0  # seconds; only there to end what hangs
AT_ONCE = 8
GOOD_EVERY = 50  # cases between two good senders
MOST_GROWTH = 100 << 20
WARM = 300
_MOMENT = 0.2  # how long the answer to the first PDU is waited for, where a broken one gets none
_IN_STORE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}\.dcm")


@dataclass
class Exchange:
    """What one run has seen."""

    seed: int
    cases: int
    ends: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    good: int = 0
    slowest: float = 0.0
    growth: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {end}" for end, count in self.ends.most_common())
        return (
            f"{self.cases} conversations, seed {self.seed}: {told}; {self.good} good senders served among them; "
            f"slowest {self.slowest:.2f} s, memory {self.growth / 2**20:+.0f} MiB; {len(self.findings)} findings"
        )


def fuzz_pdus(cases: int, seed: int, folder: Path) -> Exchange:
    """Talk nonsense to `cxr-triage listen` this many times."""
    exchange = Exchange(seed, cases)
    kept = folder / "findings"
    kept.mkdir(parents=True, exist_ok=True)
    with Site(folder / "site") as site:
        # no time limit of the listener ends a connection whose peer has said its last before LONGEST is over
        patient = "".join(f"{limit}_timeout = 600.0\n" for limit in ("association", "idle", "pdu"))
        given = site.configuration.read_text(encoding="utf-8")
        site.configuration.write_text(given.replace("[dicom]\n", "[dicom]\n" + patient), encoding="utf-8")
        site.activate_model()
        before = set(site.folder.iterdir())
        site["listen"].start()
        site.wait_ready("listen")
        process = psutil.Process(site["listen"].pid)
        base = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for first in range(0, cases, GOOD_EVERY):
                numbers = range(first, min(first + GOOD_EVERY, cases))
                good = pool.submit(_good_senders, site, folder, exchange)  # while the others talk
                list(pool.map(lambda number: _case(site.dicom_port, number, exchange, kept), numbers))
                good.result()
                if not site["listen"].running:
                    exchange.findings.append(f"the listener died in cases {numbers}: {site['listen'].log_tail(8)}")
                    break
                resident = process.memory_info().rss
                base = resident if first <= min(WARM, cases // 2) else base
                exchange.growth = max(exchange.growth, resident - base)
        exchange.findings += _left_behind(site, exchange, before)
    return exchange


def _case(port: int, number: int, exchange: Exchange, kept: Path) -> None:
    pdus = conversation(number, exchange.seed)
    started = time.monotonic()
    end = talk(port, pdus)
    seconds = time.monotonic() - started
    with exchange.lock:
        exchange.ends[end] += 1
        exchange.slowest = max(exchange.slowest, seconds)
        if end == "hung":
            path = kept / f"{exchange.seed}-{number}.pickle"
            path.write_bytes(pickle.dumps(pdus))
            exchange.findings.append(f"case {number} (seed {exchange.seed}) was not hung up on; kept as {path}")


def talk(port: int, pdus: Conversation) -> str:
    """Hold one conversation; how it ended, ``"hung"`` where it did not."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=LONGEST) as connection:
            received = b""
            if pdus:
                connection.sendall(pdus[0])
                connection.settimeout(_MOMENT)
                with contextlib.suppress(TimeoutError):
                    received = connection.recv(1 << 16)
            connection.settimeout(LONGEST)
            connection.sendall(b"".join(pdus[1:]))
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(1 << 16):
                received += more
    except TimeoutError:
        return "hung"
    except OSError:
        return "reset"
    kinds = {1: "request", 2: "accepted", 3: "rejected", 4: "data", 6: "released", 7: "aborted"}
    return " and ".join(dict.fromkeys(kinds.get(kind, "noise") for kind in _kinds(received))) or "closed"


def _kinds(received: bytes) -> list[int]:
    kinds, position = [], 0
    while position + 6 <= len(received):
        kinds.append(received[position])
        position += 6 + int.from_bytes(received[position + 2 : position + 6], "big")
    return kinds


def _good_senders(site: Site, folder: Path, exchange: Exchange) -> None:
    """A C-ECHO and a C-STORE that must be served, whatever the others do."""
    peer = Peer(site.ae_title, "127.0.0.1", site.dicom_port, calling_ae_title="GOOD", association_timeout=LONGEST)
    path = folder / "good.dcm"
    path.write_bytes(dicom_file(SOPInstanceUID=generate_uid(prefix=None)))
    try:
        echo(peer)
        results = [outcome.result for outcome in send(peer, [Outgoing("good", path)])]
    except PeerUnreachable as error:
        exchange.findings.append(f"a good sender was not served: {error.reason}")
        return
    if results != ["stored"]:
        exchange.findings.append(f"a good C-STORE ended {results}")
    exchange.good += 1


def _left_behind(site: Site, exchange: Exchange, before: set[Path]) -> list[str]:
    findings = []
    if exchange.growth > MOST_GROWTH:
        findings.append(f"the listener's memory grew by {exchange.growth >> 20} MiB")
    if TRACEBACK in site["listen"].log_text():
        text = site["listen"].log_text()
        findings.append("a traceback in the listener's log: " + text[text.index(TRACEBACK) :][:1500])
    misplaced = [str(path) for path in {*site.folder.iterdir()} - before if path != site.home]
    store = site.home / "store"
    # what an association that was broken off had put down goes with the association itself, a moment later
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not any((store / "incoming").iterdir()), 60, "nothing is on its way")
    for path in store.rglob("*"):
        if not path.is_file():
            continue
        relative = str(path.relative_to(store))
        if not _IN_STORE.fullmatch(relative) or hashlib.sha256(path.read_bytes()).hexdigest() != path.stem:
            misplaced.append(str(path))
    misplaced += [str(path) for path in (Path("/tmp/escape"),) if path.exists()]
    return [*findings, *(f"a file where none belongs: {path}" for path in misplaced)]
