"""What must hold of one mutated data set, whatever it is; run in a process of its own, which a native codec may crash.

usage: python -m tests.fuzz.judgement STORE  (cases on standard input, a line of JSON for each on standard output)
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import resource
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from pydicom.dataset import Dataset

from dicom_io.gate.decision import GateResult, decide
from dicom_io.header.instance_header import UnreadableDicom, read_header
from dicom_io.header.parsing import parse_header
from dicom_io.objects.patient_and_study import copy_identity
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from dicom_io.receive.store_request import StoreRejected, StoreRequest, examine
from tests.dicom_io.images import CR
from worker.storage.store import FolderStore

LENGTH = struct.Struct("<IH")
MOST_ADDRESS_SPACE = 8 << 30  # a decompression bomb fails here, and not on the machine


def judge(data: bytes, syntax: str, store: FolderStore) -> str:
    """Let one case go the whole way; gives how it ended. Anything but the named refusals is raised."""
    ends = [_arrival(data, syntax, store), _reading(data)]
    return ", ".join(ends)


def _arrival(data: bytes, syntax: str, store: FolderStore) -> str:
    """As the listener takes it: the data set with the UIDs that it names itself, so that it comes as far as it can."""
    try:
        claimed = read_header(data)
        body = _behind_meta(data)
        request = StoreRequest(CR, claimed.sop_instance_uid, CR, syntax, body)
        whole, facts = examine(request)
    except UnreadableDicom as refusal:
        return f"unreadable ({_plain(refusal.reason)})"
    except StoreRejected as refusal:
        return f"{refusal.status.name} ({_plain(refusal.reason)})"
    decision = decide(facts)
    assert isinstance(decision, GateResult)
    assert decision.reason
    stored = store.put(whole)
    assert store.path(stored.uri).resolve().is_relative_to(store.root.resolve())
    store.discard(stored.uri)
    json.dumps(decision.header_values)
    return f"arrived, {decision.rule}"


def _reading(data: bytes) -> str:
    """As the worker reads it: header, identity, pixels."""
    try:
        header, _has_pixels = parse_header(data)
        copy_identity(header, Dataset())
        shown = read_grayscale(data)
    except (UnreadableDicom, PixelsUnreadable) as refusal:
        return f"not read ({_plain(refusal.reason)})"
    assert shown.image.dtype == np.float32
    assert shown.image.ndim == 2
    assert np.isfinite(shown.image).all()
    assert 0 <= shown.image.min() <= shown.image.max() <= 1
    return "read"


def _plain(reason: str) -> str:
    assert reason.strip(), "a refusal without a reason"
    assert len(reason) < 400, f"a refusal of {len(reason)} characters"
    return reason[:60]


def _behind_meta(data: bytes) -> bytes:
    """The data set alone, where the file says where it begins."""
    if data[128:132] != b"DICM" or len(data) < 144:
        return data
    return data[144 + int.from_bytes(data[140:144], "little") :]


class WatchedWrites:
    """Sees every file that this process creates, changes or moves by Python's own means, anywhere on the machine."""

    _NEW_NAME: ClassVar = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0}

    def __init__(self, allowed: Path) -> None:
        self._allowed = allowed.resolve()
        self.outside: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _mode, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in self._NEW_NAME:
            path = arguments[self._NEW_NAME[event]]
        else:
            return
        if isinstance(path, str | bytes | os.PathLike):
            place = Path(os.path.realpath(os.fsdecode(path)))
            if not place.is_relative_to(self._allowed):
                self.outside.append(f"{event} {place}")

    def take(self) -> str:
        """What was seen since the last call, in words; empty: nothing."""
        seen, self.outside = self.outside, []
        return f"written outside the store: {seen[:3]}" if seen else ""


def serve(cases: BinaryIO, store: FolderStore) -> None:
    """Judge every case that comes, and say how it went."""
    writes = WatchedWrites(store.root)
    while header := cases.read(LENGTH.size):
        length, name_length = LENGTH.unpack(header)
        syntax, data = cases.read(name_length).decode("ascii"), cases.read(length)
        started = time.monotonic()
        try:
            end, fault = judge(data, syntax, store), writes.take()
        except BaseException:  # noqa: BLE001  (edge of the process: whatever it is, it is the finding)
            end, fault = "raised", traceback.format_exc(limit=-6)
        told = {"end": end, "fault": fault, "seconds": time.monotonic() - started, "rss": _resident_bytes()}
        print(json.dumps(told), flush=True)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, FolderStore(Path(sys.argv[1])))
