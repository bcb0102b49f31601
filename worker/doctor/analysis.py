"""Checks of analysis: decoders, the model and its speed on this processor, waiting work, and running processes."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from db.engine.session import Database, DatabaseUnavailable
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from db.views.metrics import Measures, measure
from model.bundle.bundle import BundleInvalid
from model.engine.protocol import EngineUnsuitable
from model.inference.predictor import Predictor
from worker.analysis.codec_check import check_codecs
from worker.analysis.codec_samples import SAMPLES
from worker.config.settings import Settings
from worker.doctor.check_result import CheckResult, Examined
from worker.model_registry.bundles import list_bundles
from worker.monitoring.processes import ProcessState, process_states
from worker.runtime.clock import Clock
from worker.runtime.cores import usable_cores
from worker.runtime.registered_process import ANALYSIS_CHILD, PROCESSES
from worker.runtime.timeouts import DESTINATION_KEPT

_RUNS = 10
_UNREAD_WARNING = timedelta(minutes=10)
_UNREAD_FAILED = timedelta(hours=1)
_UNSENT_WARNING = timedelta(hours=1)


def codecs(_examined: Examined) -> Iterator[CheckResult]:
    """Every compressed transfer syntax that is received, by decoding an image of 8 x 8 pixels in it."""
    found = check_codecs()
    detail = "; ".join(f"{decoder}: {', '.join(names)}" for decoder, names in found.decoders.items())
    library = f"imagecodecs {version('imagecodecs')}"
    if found.broken:
        remedy = "reinstall the version of imagecodecs that this program requires; until then such images wait or fail"
        yield CheckResult("codecs", "failed", f"{library}: {'; '.join(found.broken)}", remedy)
    else:
        yield CheckResult(
            "codecs", "ok", f"{library} decodes {len(SAMPLES)} syntaxes ({detail}); uncompressed pixels need no decoder"
        )


def engine(examined: Examined) -> Iterator[CheckResult]:
    """The active models, else the shipped one: complete, reproducing their golden output, and how fast they are."""
    settings = examined.settings
    try:
        active = _active(settings)
    except DatabaseUnavailable:
        active = ActiveModels()  # the check of the database reports it
    for model in active.models:
        reads = "" if len(active.entries) == 1 else f"; scope: {active.reads(model.digest)}"
        yield _engine(settings, Path(model.folder), reads, is_active=True)
    if active and active.default is None:
        detail = "no default model: images outside the scope of every active model get no result"
        remedy = "run 'cxr-triage model activate NAME' without --ages and --views, or with --default"
        yield CheckResult(
            "engine",
            "warning",
            detail,
            remedy,
        )
    if not active:
        folder = _shipped(settings)
        if folder is None:
            remedy = "train or import a model, then 'cxr-triage model activate NAME'"
            yield CheckResult("engine", "failed", "no model is active and none is shipped", remedy)
        else:
            yield _engine(settings, folder, "", is_active=False)


def _engine(settings: Settings, folder: Path, reads: str, *, is_active: bool) -> CheckResult:
    try:
        reader = Predictor.open(folder, settings.reading.precision, threads=1, engine=settings.reading.engine)
    except (BundleInvalid, EngineUnsuitable) as error:
        other = "run 'cxr-triage model activate NAME' with another model"
        restore, precision = "restore the bundle's folder", 'set [reading] precision = "auto"'
        remedy = f"{restore if isinstance(error, BundleInvalid) else precision}, or {other}"
        return CheckResult("engine", "failed", f"{error}{reads}", remedy)
    cores = settings.worker.processes or usable_cores()
    detail = (
        f"{reader.engine.name} {reader.engine.precision}: {_milliseconds(reader):.0f} ms an image with "
        f"{reader.bundle.name} on one core of {_chip()}; {cores} worker {'child' if cores == 1 else 'children'}{reads}"
    )
    if is_active:
        return CheckResult("engine", "ok", detail)
    remedy = "run 'cxr-triage model activate NAME' (names: 'cxr-triage model list')"
    return CheckResult("engine", "warning", f"{detail}; no model is active: studies are received and wait", remedy)


def work(examined: Examined) -> Iterator[CheckResult]:
    """How much waits for analysis and delivery, for how long, and how much has failed."""
    try:
        found = _measured(examined)
    except DatabaseUnavailable:
        return  # the check of the database reports it
    if found is None:
        return
    moment = examined.clock()
    waiting = found.instances["pending"] + found.instances["running"]
    age = moment - found.oldest_unread if found.oldest_unread else timedelta(0)
    failed = found.instances["failed"]
    detail = f"{waiting} wait" + (f", the oldest for {_duration(age)}" if waiting else "") + f"; {failed} failed"
    most = examined.settings.intake.maximum_backlog
    if most and waiting >= most:
        remedy = "start more 'cxr-triage work' processes; images are accepted again as soon as fewer wait"
        detail = f"{detail}; new images are answered with 'out of resources' ([intake] maximum_backlog {most})"
        yield CheckResult("reading", "failed", detail, remedy)
    elif age > _UNREAD_WARNING:
        remedy = "check that 'cxr-triage work' runs and that a model is active ('cxr-triage model list')"
        yield CheckResult("reading", "failed" if age > _UNREAD_FAILED else "warning", detail, remedy)
    elif failed:
        yield CheckResult("reading", "warning", detail, "'cxr-triage ledger --unfinished' lists them with reasons")
    else:
        yield CheckResult("reading", "ok", detail)
    yield _deliveries(found, moment, {each.name for each in examined.settings.destinations})
    if any(found.commitments.values()):
        yield _commitments(found, moment)


def _deliveries(found: Measures, moment: datetime, configured: set[str]) -> CheckResult:
    refused = sum(number for (_, state), number in found.deliveries.items() if state == "failed")
    unsent = sum(number for (_, state), number in found.deliveries.items() if state in ("pending", "sending"))
    oldest = min(found.oldest_undelivered.values(), default=None)
    age = moment - oldest if oldest else timedelta(0)
    detail = f"{unsent} wait" + (f", the oldest for {_duration(age)}" if unsent else "") + f"; {refused} failed"
    if unknown := sorted(set(found.oldest_undelivered) - configured):
        remedy = (
            f"correct [[destinations]]; what waits for one that is gone is given up after {DESTINATION_KEPT.days} days"
        )
        return CheckResult("delivery", "warning", f"{detail}; not configured: {', '.join(unknown)}", remedy)
    if age > _UNSENT_WARNING:
        return CheckResult(
            "delivery", "warning", detail, "check that 'cxr-triage deliver' runs and that the destination answers"
        )
    if refused:
        return CheckResult(
            "delivery",
            "warning",
            detail,
            "the study's page shows the reason; correct it at the destination, then run 'cxr-triage redeliver NAME'",
        )
    return CheckResult("delivery", "ok", detail)


def _commitments(found: Measures, moment: datetime) -> CheckResult:
    waiting = found.commitments["pending"] + found.commitments["reporting"]
    age = moment - found.oldest_commitment if found.oldest_commitment else timedelta(0)
    detail = f"{waiting} wait" + (f", the oldest for {_duration(age)}" if waiting else "")
    detail += f"; {found.commitments['reported']} reported, {found.commitments['failed']} given up"
    if age <= _UNSENT_WARNING:
        return CheckResult("commitment", "ok", detail)
    remedy = "the ledger page names the requester and the reason; the requester needs an entry in [[peers]]"
    return CheckResult("commitment", "warning", detail, remedy)


def processes(examined: Examined) -> Iterator[CheckResult]:
    """Which processes of this installation run, on every machine, and which service runs nowhere."""
    running = {each.name for each in examined.processes if each.state == "running"}
    missing = [name for name in PROCESSES if name not in running]
    detail = "; ".join(str(each) for each in examined.processes)
    lost = list(dict.fromkeys(each.name for each in examined.processes if each.state == "lost"))
    dead = [name for name in lost if name not in running]
    if dead:
        remedy = "none of them was stopped in order: see their log, and start " + _commands(dead)
        yield CheckResult("processes", "failed", detail, remedy)
    elif not running:
        yield CheckResult("processes", "warning", detail or "none has registered yet", "start them: 'cxr-triage up'")
    elif missing:
        yield CheckResult("processes", "warning", detail, f"start {_commands(missing)}")
    elif lost:  # others of the same name run: another machine was lost, or a container was replaced
        yield CheckResult("processes", "warning", detail, f"see whether its machine is to run {_commands(lost)} again")
    else:
        yield CheckResult("processes", "ok", detail)


def _commands(names: Sequence[str]) -> str:
    return ", ".join(f"'cxr-triage {'work' if name == ANALYSIS_CHILD else name}'" for name in names)


def registered_processes(settings: Settings, clock: Clock) -> tuple[ProcessState, ...]:
    """Return the processes that the database knows of; none if it does not answer, which another check reports."""
    try:
        with _database(settings) as database:
            return () if database is None else process_states(database, clock)
    except DatabaseUnavailable:
        return ()


def _active(settings: Settings) -> ActiveModels:
    with _database(settings) as database:
        if database is None:
            return ActiveModels()
        with database.read() as session:
            return active_models(session)


def _measured(examined: Examined) -> Measures | None:
    with _database(examined.settings) as database:
        if database is None:
            return None
        with database.read() as session:
            return measure(session, examined.clock(), timedelta(hours=1), 1)


@contextmanager
def _database(settings: Settings) -> Iterator[Database | None]:
    """The database if it has this program's schema: nothing is created here. `DatabaseUnavailable`."""
    from db.engine.schema import HEAD_REVISION, revision

    if not settings.has_database:
        yield None
        return
    with Database(settings.database_url) as database:
        yield database if revision(database) == HEAD_REVISION else None


def _shipped(settings: Settings) -> Path | None:
    found = [bundle for bundle in list_bundles(settings) if not isinstance(bundle, BundleInvalid)]
    return found[0].folder if found else None


def _milliseconds(reader: Predictor) -> float:
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
