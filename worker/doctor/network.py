"""Checks of connections: broker, DICOM listener, destinations, and the clocks of this machine and the database."""

from __future__ import annotations

import contextlib
import ctypes
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
from worker.doctor.check_result import CheckResult, Examined
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.queue.embedded_server import server_program

_ECHO_SECONDS = 5.0
_CLOCK_WARNING = 2.0  # seconds; waiting times and retries are computed from these clocks
_CLOCK_FAILED = 60.0  # most of an analysis lease: another machine would take over running work
_CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


def broker(examined: Examined) -> Iterator[CheckResult]:
    """The broker only carries notifications; without it, studies wait until recovery queues them again."""
    settings = examined.settings
    try:
        lengths = queue_lengths(settings)
    except BrokerUnavailable as error:
        if settings.broker.url:
            yield CheckResult(
                "broker", "failed", f"{settings.broker.url}: {error}", "start it, or correct [broker] url"
            )
            return
        try:
            program = server_program()
        except BrokerUnavailable as missing:
            yield CheckResult("broker", "failed", "embedded: no server program", str(missing))
            return
        detail = f"embedded ({program}), not running"
        yield CheckResult("broker", examined.level_if_silent, detail, "'cxr-triage up' starts it; see log/broker.log")
        return
    kind = "configured" if settings.broker.url else "embedded"
    waiting = ", ".join(f"{number} {queue}" for queue, number in lengths.items())
    yield CheckResult("broker", "ok", f"{kind}, answers; queued: {waiting}")


def listener(examined: Examined) -> Iterator[CheckResult]:
    """Our own listener, by the C-ECHO that a modality would send."""
    peer = own_peer(examined.settings)
    problem = _echo(peer)
    if problem is None:
        yield CheckResult("listener", "ok", f"{peer} answers C-ECHO")
    else:
        remedy = "'cxr-triage up' or 'cxr-triage listen' starts it; on another machine: --skip listener"
        yield CheckResult("listener", examined.level_if_silent, problem, remedy)


def destinations(examined: Examined) -> Iterator[CheckResult]:
    """Every DICOM destination, by C-ECHO, all at once."""
    settings = examined.settings
    if not settings.destinations:
        yield CheckResult("destinations", "ok", "none configured: results stay here, on the worklist")
        return
    nodes = dicom_destinations(settings)
    peers = [destination_peer(settings, destination) for destination in nodes]
    with ThreadPoolExecutor(max(len(peers), 1)) as pool:
        problems = list(pool.map(_echo, peers))
    for destination, peer, problem in zip(nodes, peers, problems, strict=True):
        check = f"destination {destination.name}"
        if problem is None:
            yield CheckResult(check, "ok", f"{peer} answers C-ECHO")
        else:
            remedy = (
                f"check that it runs, that its entry is right, and that it accepts AE title {peer.calling_ae_title}"
            )
            yield CheckResult(check, "failed", problem, remedy)


def clock(examined: Examined) -> Iterator[CheckResult]:
    """This machine's clock compared with the file system's and the database's, and whether it is synchronized."""
    offsets = {}
    folder = examined.settings.home
    with contextlib.suppress(OSError):  # a home that cannot be written is reported by its own check
        probe = folder / f".doctor-{uuid.uuid4().hex}"
        probe.touch()
        offsets["file system"] = probe.stat().st_mtime - examined.clock().timestamp()
        probe.unlink()
    if examined.settings.database.url:
        try:
            with Database(examined.settings.database_url) as database:
                theirs = condition(database).clock
        except DatabaseUnavailable:
            theirs = None  # the database's own check says so
        if theirs is not None:
            offsets["database"] = (theirs - examined.clock()).total_seconds()
    worst = max((abs(offset) for offset in offsets.values()), default=0.0)
    compared = ", ".join(f"{name} {offset:+.1f} s" for name, offset in offsets.items()) or "nothing to compare with"
    detail = f"{examined.clock():%Y-%m-%d %H:%M:%S} UTC; {compared}"
    if worst > _CLOCK_WARNING:
        yield CheckResult(
            "clock",
            "failed" if worst > _CLOCK_FAILED else "warning",
            detail,
            "synchronize all clocks by NTP",
        )
    elif _synchronised() is False:
        yield CheckResult("clock", "warning", f"{detail}; not synchronized", "synchronize it by NTP")
    else:
        yield CheckResult("clock", "ok", detail)


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
    """Whether the kernel's clock is synchronized (adjtimex(2), read only); None where that is unknown."""
    if sys.platform != "linux":
        return None
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    return None if state < 0 else state != _CLOCK_UNSYNCHRONISED
