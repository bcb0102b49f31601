"""Receiving: 7 MB objects over 1 and 8 associations, ours beside DCMTK's storescp and Orthanc, from the same senders.

Every receiver gets the same files from the same `storescu` processes, one receiver at a time, the order changing from
round to round; the median round counts. storescp syncs nothing; the row "storescp, synced" adds one fsync of each file
after the last was acknowledged, which is later than an acknowledgement should be. "pynetdicom's decoder" is our
listener with the library's own reading and decoding of PDUs; the second series has PDUs of 16 KiB, as many modalities
send.
"""

from __future__ import annotations

import itertools
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.benchmarks import receivers
from tests.benchmarks.receivers import Receiver
from tests.peers.programs import require_peer
from tests.peers.radiographs import sample

OBJECTS = 24
ROUNDS = 3
ASSOCIATIONS = (1, 8)
PEERS: dict[str, Callable[[Path], AbstractContextManager[Receiver]]] = {
    "ours": receivers.ours,
    "storescp": receivers.storescp,
    "storescp, synced": partial(receivers.storescp, sync=True),
    "Orthanc": receivers.orthanc,
    "pynetdicom's decoder": partial(receivers.ours, library_decoder=True),
}
# what its lines are called, storescu's options, the receivers
SERIES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("", (), tuple(PEERS)),
    (", PDUs of 16 KiB", ("--max-send-pdu", "16384"), ("ours", "pynetdicom's decoder")),
)


@dataclass(frozen=True)
class Round:
    """What one receiver did with all objects once: wall and CPU seconds of all of them."""

    seconds: float
    cpu: float


def receiving(folder: Path) -> Iterator[str]:
    """Objects a second and CPU ms an object, each receiver beside the others."""
    files = _radiographs(folder / "objects")
    megabytes = statistics.mean(each.stat().st_size for each in files) / 1e6
    for (label, options, names), associations in itertools.product(SERIES, ASSOCIATIONS):
        title = f"{associations} association{'s' * (associations > 1)}{label}"
        rounds = _measure(folder / title, files, associations, options, names)
        for name, done in rounds.items():
            rate = OBJECTS / statistics.median(each.seconds for each in done)
            cpu = 1000 * statistics.median(each.cpu for each in done) / OBJECTS
            yield (
                f"{title}: {name:20} {rate:5.1f} objects/s ({rate * megabytes:4.0f} MB/s), {cpu:4.0f} CPU ms an object"
            )
        yield f"{title}: {_ratios(rounds)}"


def _measure(
    folder: Path, files: Sequence[Path], associations: int, options: Sequence[str], names: Sequence[str]
) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    for number in range(ROUNDS):
        for name in names if number % 2 == 0 else reversed(names):
            with PEERS[name](folder / f"{re.sub('[^a-z]+', '-', name)}-{number}") as receiver:
                _send(receiver, files[:1], 1, options)  # what is done once a process is not measured
                receiver.settle()
                rounds[name].append(_round(receiver, files[1:], associations, options))
    return rounds


def _round(receiver: Receiver, files: Sequence[Path], associations: int, options: Sequence[str]) -> Round:
    os.sync()  # nobody pays for what the one before left unwritten
    cpu, started = receiver.cpu_seconds(), time.monotonic()
    _send(receiver, files, associations, options)
    receiver.make_durable()
    seconds = time.monotonic() - started
    return Round(seconds, receiver.cpu_seconds() - cpu)


def _send(receiver: Receiver, files: Sequence[Path], associations: int, options: Sequence[str]) -> None:
    """Send the files with as many senders at once, an association each; every object must be acknowledged."""
    arguments = [require_peer("storescu"), "-q", *options, "-aec", receiver.called, "127.0.0.1", str(receiver.port)]
    senders = [
        subprocess.Popen([*arguments, *map(str, files[number::associations])], stdin=subprocess.DEVNULL)
        for number in range(min(associations, len(files)))
    ]
    codes = [sender.wait(300) for sender in senders]
    assert not any(codes), f"storescu ended with {codes}"  # it stops at the first object that is not stored


def _ratios(rounds: dict[str, list[Round]]) -> str:
    # round by round, because what else the machine does meets neighbours alike
    parts = []
    for name, done in rounds.items():
        if name != "ours":
            pairs = list(zip(rounds["ours"], done, strict=True))
            rate = statistics.median(theirs.seconds / mine.seconds for mine, theirs in pairs)
            cpu = statistics.median(mine.cpu / theirs.cpu for mine, theirs in pairs)
            parts.append(f"{rate:.2f} of the rate and {cpu:.2f} of the CPU time of {name}")
    return f"ours: {'; '.join(parts)}"


def _radiographs(folder: Path) -> list[Path]:
    """One more than is measured; each with a UID and pixels of its own."""
    folder.mkdir(parents=True)
    image = dcmread(sample("RG1_UNCR"))
    pixels, files = bytearray(image.PixelData), []
    for number in range(OBJECTS + 1):
        pixels[:4] = number.to_bytes(4, "little")
        image.PixelData = bytes(pixels)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
        files.append(folder / f"{number}.dcm")
        image.save_as(files[-1])
    return files
