"""The doctor's look at reading: decoders, the network and its speed on this chip, what waits, and who does the work."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from db.engine.session import Database, DatabaseUnavailable
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from db.views.metrics import Measures, measure
from model.bundle.bundle import BundleInvalid
from model.engine.protocol import EngineUnsuitable
from model.inference.reader import Reader
from worker.analysis.codec_check import check_codecs
from worker.analysis.codec_samples import SAMPLES
from worker.config.settings import Settings
from worker.doctor.check_result import Examined, Finding
from worker.model_registry.bundles import list_bundles
from worker.monitoring.processes import ProcessState, process_states
from worker.runtime.registered_process import PROCESSES

_RUNS = 10
_UNREAD_WARNING = timedelta(minutes=10)
_UNREAD_FAILED = timedelta(hours=1)
_UNSENT_WARNING = timedelta(hours=1)


def codecs(_examined: Examined) -> Iterator[Finding]:
    """Every compressed transfer syntax that is received, by decoding a film of 8 x 8 pixels in it."""
    found = check_codecs()
    seen = "; ".join(f"{decoder}: {', '.join(names)}" for decoder, names in found.decoders.items())
    library = f"imagecodecs {version('imagecodecs')}"
    if found.broken:
        mend = "install the program's own version of imagecodecs again; until then such films wait, or fail and say so"
        yield Finding("codecs", "failed", f"{library}: {'; '.join(found.broken)}", mend)
    else:
        yield Finding("codecs", "ok", f"{library} decodes {len(SAMPLES)} syntaxes ({seen}); uncompressed: none needed")


def engine(examined: Examined) -> Iterator[Finding]:
    """The active models, else the one that is shipped: whole, giving their golden output, and how fast."""
    settings = examined.settings
    try:
        active = _active(settings)
    except DatabaseUnavailable:
        active = ActiveModels()  # the database's own check says so
    for model in active.models:
        reads = "" if len(active.entries) == 1 else f"; it reads {active.reads(model.digest)}"
        yield _engine(settings, Path(model.folder), reads, is_active=True)
    if active and active.default is None:
        mend = "'cxr-triage model activate NAME' without ages and views, or with --default"
        yield Finding("engine", "warning", "no default model: what no active model reads gets no result", mend)
    if not active:
        folder = _shipped(settings)
        if folder is None:
            mend = "train or import a model, then 'cxr-triage model activate NAME'"
            yield Finding("engine", "failed", "no model is active and none is shipped", mend)
        else:
            yield _engine(settings, folder, "", is_active=False)


def _engine(settings: Settings, folder: Path, reads: str, *, is_active: bool) -> Finding:
    try:
        reader = Reader.open(folder, settings.reading.precision, threads=1, engine=settings.reading.engine)
    except (BundleInvalid, EngineUnsuitable) as error:
        mend = "'cxr-triage model activate NAME' with another model, or [reading] precision = \"auto\""
        return Finding("engine", "failed", f"{error}{reads}", mend)
    cores = settings.worker.processes or os.cpu_count() or 1
    seen = (
        f"{reader.engine.name} {reader.engine.precision}: {_milliseconds(reader):.0f} ms an image with "
        f"{reader.bundle.name} on one core of {_chip()}; {cores} worker {'child' if cores == 1 else 'children'}{reads}"
    )
    if is_active:
        return Finding("engine", "ok", seen)
    mend = "'cxr-triage model activate NAME' (see 'cxr-triage model list')"
    return Finding("engine", "warning", f"{seen}; no model is active: studies are received and wait", mend)


def work(examined: Examined) -> Iterator[Finding]:
    """What waits to be read and to be sent, and what never will be."""
    try:
        found = _measured(examined)
    except DatabaseUnavailable:
        return  # the database's own check says so
    if found is None:
        return
    moment = examined.clock()
    waiting = found.instances["pending"] + found.instances["running"]
    age = moment - found.oldest_unread if found.oldest_unread else timedelta(0)
    failed = found.instances["failed"]
    seen = f"{waiting} wait" + (f", the oldest for {_duration(age)}" if waiting else "") + f"; {failed} failed"
    most = examined.settings.intake.maximum_backlog
    if most and waiting >= most:
        mend = "start more 'cxr-triage work'; it ends by itself when fewer wait"
        seen = f"{seen}; from {most} on images are answered with 'out of resources' ([intake] maximum_backlog)"
        yield Finding("reading", "failed", seen, mend)
    elif age > _UNREAD_WARNING:
        mend = "does 'cxr-triage work' run, and is a model active? see 'cxr-triage ledger --unfinished'"
        yield Finding("reading", "failed" if age > _UNREAD_FAILED else "warning", seen, mend)
    elif failed:
        yield Finding("reading", "warning", seen, "'cxr-triage ledger --unfinished' says which and why")
    else:
        yield Finding("reading", "ok", seen)
    yield _deliveries(found, moment)
    if any(found.commitments.values()):
        yield _commitments(found, moment)


def _deliveries(found: Measures, moment: datetime) -> Finding:
    refused = sum(number for (_, state), number in found.deliveries.items() if state == "failed")
    unsent = sum(number for (_, state), number in found.deliveries.items() if state in ("pending", "sending"))
    oldest = min(found.oldest_undelivered.values(), default=None)
    age = moment - oldest if oldest else timedelta(0)
    seen = f"{unsent} wait" + (f", the oldest for {_duration(age)}" if unsent else "") + f"; {refused} refused for good"
    if age > _UNSENT_WARNING:
        return Finding("delivery", "warning", seen, "does 'cxr-triage deliver' run, does the destination answer?")
    if refused:
        return Finding(
            "delivery",
            "warning",
            seen,
            "the reason is on the study's page; mend it at the destination, then 'cxr-triage redeliver NAME'",
        )
    return Finding("delivery", "ok", seen)


def _commitments(found: Measures, moment: datetime) -> Finding:
    waiting = found.commitments["pending"] + found.commitments["reporting"]
    age = moment - found.oldest_commitment if found.oldest_commitment else timedelta(0)
    seen = f"{waiting} wait" + (f", the oldest for {_duration(age)}" if waiting else "")
    seen += f"; {found.commitments['reported']} reported, {found.commitments['failed']} given up"
    if age <= _UNSENT_WARNING:
        return Finding("commitment", "ok", seen)
    mend = "the ledger page names the requester and the reason; has it a line in [[peers]]?"
    return Finding("commitment", "warning", seen, mend)


def processes(examined: Examined) -> Iterator[Finding]:
    """Which processes of this installation run, on every machine, and which service runs nowhere."""
    running = {each.name for each in examined.processes if each.state == "running"}
    missing = [name for name in PROCESSES if name not in running]
    detail = "; ".join(str(each) for each in examined.processes)
    if not running:
        yield Finding("processes", "warning", detail or "none has registered yet", "start them: 'cxr-triage up'")
    elif missing:
        mend = "start " + ", ".join(f"'cxr-triage {name}'" for name in missing)
        yield Finding("processes", "warning", detail, mend)
    else:
        yield Finding("processes", "ok", detail)


def registered_processes(settings: Settings) -> tuple[ProcessState, ...]:
    """Return the processes that the database knows of; none where it does not answer, which is a finding of its own."""
    try:
        database = _database(settings)
        return () if database is None else process_states(database)
    except DatabaseUnavailable:
        return ()


def _active(settings: Settings) -> ActiveModels:
    database = _database(settings)
    if database is None:
        return ActiveModels()
    with database.read() as session:
        return active_models(session)


def _measured(examined: Examined) -> Measures | None:
    database = _database(examined.settings)
    if database is None:
        return None
    with database.read() as session:
        return measure(session, examined.clock(), timedelta(hours=1), 1)


def _database(settings: Settings) -> Database | None:
    """The database if it has this program's schema: nothing is created here. `DatabaseUnavailable`."""
    from db.engine.schema import HEAD_REVISION, revision

    if not settings.has_database:
        return None
    database = Database(settings.database_url)
    return database if revision(database) == HEAD_REVISION else None


def _shipped(settings: Settings) -> Path | None:
    found = [bundle for bundle in list_bundles(settings) if not isinstance(bundle, BundleInvalid)]
    return found[0].folder if found else None


def _milliseconds(reader: Reader) -> float:
    """The median time of one image, in milliseconds."""
    image = reader.bundle.golden.tensors[:1]
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        reader.engine.run(image)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _chip() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _duration(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    return next(
        (f"{seconds // size} {unit}" for size, unit in ((3600, "h"), (60, "min")) if seconds >= size), f"{seconds} s"
    )
