"""The doctor's look at what is talked to: broker, listener, destinations, and the clocks of it all."""

from __future__ import annotations

import ctypes
import os
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from db.engine.health import condition
from db.engine.session import Database, DatabaseUnavailable
from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.send.storage_scu import echo
from worker.config.dicom_peers import destination_peer, dicom_destinations, own_peer
from worker.doctor.check_result import Examined, Finding
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.queue.embedded_server import server_program

_ECHO_SECONDS = 5.0
_CLOCK_WARNING = 2.0  # seconds; waiting times and retries are judged by these clocks
_CLOCK_FAILED = 60.0  # half a lease: another machine would take running work over
_CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


def broker(examined: Examined) -> Iterator[Finding]:
    """The dispatcher; without it results wait for the sweep, which rings again."""
    settings = examined.settings
    try:
        lengths = queue_lengths(settings)
    except BrokerUnavailable as error:
        if settings.broker.url:
            yield Finding("broker", "failed", f"{settings.broker.url}: {error}", "start it, or mend [broker] url")
            return
        try:
            program = server_program()
        except BrokerUnavailable as missing:
            yield Finding("broker", "failed", "embedded: no server program", str(missing))
            return
        seen = f"embedded ({program}), not running"
        yield Finding("broker", examined.level_if_silent, seen, "'cxr-triage up' starts it; see log/broker.log")
        return
    waiting = ", ".join(f"{number} {queue}" for queue, number in lengths.items())
    yield Finding("broker", "ok", f"{'configured' if settings.broker.url else 'embedded'}, answers; waiting: {waiting}")


def listener(examined: Examined) -> Iterator[Finding]:
    """Our own listener, asked as a modality would."""
    peer = own_peer(examined.settings)
    problem = _echo(peer)
    if problem is None:
        yield Finding("listener", "ok", f"{peer} answers C-ECHO")
    else:
        mend = "'cxr-triage up' or 'cxr-triage listen' starts it; on another machine: --skip listener"
        yield Finding("listener", examined.level_if_silent, problem, mend)


def destinations(examined: Examined) -> Iterator[Finding]:
    """Every DICOM destination, by C-ECHO, all at once."""
    settings = examined.settings
    if not settings.destinations:
        yield Finding("destinations", "ok", "none configured: results stay here, on the worklist")
        return
    nodes = dicom_destinations(settings)
    peers = [destination_peer(settings, destination) for destination in nodes]
    with ThreadPoolExecutor(max(len(peers), 1)) as pool:
        problems = list(pool.map(_echo, peers))
    for destination, peer, problem in zip(nodes, peers, problems, strict=True):
        check = f"destination {destination.name}"
        if problem is None:
            yield Finding(check, "ok", f"{peer} answers C-ECHO")
        else:
            mend = (
                f"is it up, is [[destinations]] right, does it know {peer.calling_ae_title} and this machine's address?"
            )
            yield Finding(check, "failed", problem, mend)


def clock(examined: Examined) -> Iterator[Finding]:
    """This machine's clock against the file system's and the database's, and whether anything keeps it right."""
    offsets = {}
    folder = examined.settings.home
    if folder.exists() and os.access(folder, os.W_OK):
        probe = folder / f".doctor-{uuid.uuid4().hex}"
        probe.touch()
        offsets["file system"] = probe.stat().st_mtime - examined.clock().timestamp()
        probe.unlink()
    if examined.settings.database.url:
        try:
            database = Database(examined.settings.database_url)
            theirs = condition(database).clock
            database.dispose()
        except DatabaseUnavailable:
            theirs = None  # the database's own check says so
        if theirs is not None:
            offsets["database"] = (theirs - examined.clock()).total_seconds()
    worst = max((abs(offset) for offset in offsets.values()), default=0.0)
    compared = ", ".join(f"{name} {offset:+.1f} s" for name, offset in offsets.items()) or "nothing to compare with"
    seen = f"{examined.clock():%Y-%m-%d %H:%M:%S} UTC; {compared}"
    if worst > _CLOCK_WARNING:
        yield Finding(
            "clock", "failed" if worst > _CLOCK_FAILED else "warning", seen, "keep every machine's clock by NTP"
        )
    elif _synchronised() is False:
        yield Finding("clock", "warning", f"{seen}; kept by nothing", "keep it by NTP (systemd-timesyncd, chrony)")
    else:
        yield Finding("clock", "ok", seen)


def _echo(peer: Peer) -> str | None:
    """None if the peer answers, else why not."""
    try:
        echo(
            replace(
                peer,
                connect_timeout=_ECHO_SECONDS,
                association_timeout=_ECHO_SECONDS,
                response_timeout=_ECHO_SECONDS,
            )
        )
    except PeerUnreachable as error:
        return error.reason
    return None


def _synchronised() -> bool | None:
    """Whether the kernel's clock is kept by anything (adjtimex(2), read only); None where that cannot be known."""
    if sys.platform != "linux":
        return None
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    return None if state < 0 else state != _CLOCK_UNSYNCHRONISED
