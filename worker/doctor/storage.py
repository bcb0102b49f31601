"""The doctor's look at what keeps the studies: home folder, database, store, space."""

from __future__ import annotations

import os
import shutil
import statistics
import time
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from db.engine.health import condition, file_system
from db.engine.session import Database, DatabaseUnavailable
from worker.config.settings import ConfigurationError
from worker.doctor.check_result import Examined, Finding
from worker.intake.back_pressure import floor_bytes
from worker.intake.folder.scan import FAILED
from worker.intake.folder.watcher import import_folder

_SLOW_SYNC = 50.0  # milliseconds; an acknowledged image waits for five syncs: the file, its folders, the database
_SYNCS = 5
_LEAST_FREE = 1e9  # bytes; about a hundred radiographs
_LITTLE_FREE = 10e9
_MOST_COUNTED = 1000


def home(examined: Examined) -> Iterator[Finding]:
    """The home folder: there, ours to write, closed to others, on a disk that syncs quickly."""
    folder = examined.settings.home
    if not folder.exists():
        parent = next(path for path in folder.parents if path.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield Finding("home", "warning", f"{folder} does not exist yet", "'cxr-triage up' creates it and all in it")
        else:
            yield Finding("home", "failed", f"{folder} does not exist, {parent} is not writable", _OTHER_HOME)
        return
    try:
        took = _sync_milliseconds(folder)
    except OSError as error:
        yield Finding("home", "failed", f"{folder} cannot be written: {error.strerror}", _OTHER_HOME)
        return
    kind = file_system(folder)
    seen = f"{folder} on {kind}, a write is durable in {took:.1f} ms"
    if took > _SLOW_SYNC:
        yield Finding("home", "warning", seen, "images are acknowledged slowly: put it on a local solid-state disk")
    elif kind in ("tmpfs", "ramfs"):
        yield Finding("home", "warning", f"{seen}: lost when the machine stops", _OTHER_HOME)
    elif folder.stat().st_uid != os.geteuid():
        yield Finding(
            "home", "warning", f"{seen}; it belongs to another user", f"run every command as the owner of {folder}"
        )
    elif folder.stat().st_mode & 0o007:
        yield Finding("home", "warning", f"{seen}; everyone may look into it", f"chmod o= {folder}")
    else:
        yield Finding("home", "ok", seen)


_OTHER_HOME = "choose another with --home or [storage] home"


def database(examined: Examined) -> Iterator[Finding]:
    """The database: answers, has this program's schema, and keeps what it has committed."""
    settings = examined.settings
    if not settings.has_database:
        if settings.home.exists():  # else that is said already
            yield Finding("database", "warning", "none yet: SQLite under the home folder", "'cxr-triage up' creates it")
        return
    try:
        opened = Database(settings.database_url)
        found = condition(opened)
        opened.dispose()
    except DatabaseUnavailable as error:
        mend = "start it, or mend [database] url" if settings.database.url else "restore the file from a backup"
        yield Finding("database", "failed", str(error), mend)
        return
    stated = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    seen = f"{opened.place}: {found.product}, schema {found.revision or 'empty'}, {stated}"
    if found.revision is None:
        yield Finding("database", "warning", seen, "any process creates the schema when it starts")
    elif found.revision != found.needed:
        mend = "stop all processes, back it up, run 'cxr-triage db upgrade'"
        yield Finding("database", "failed", f"{seen}; this program needs {found.needed}", mend)
    elif found.faults:
        mend = "an acknowledged image could be lost in a power cut: mend what is named"
        yield Finding("database", "failed", f"{seen}; {'; '.join(found.faults)}", mend)
    else:
        yield Finding("database", "ok", seen)


def store(examined: Examined) -> Iterator[Finding]:
    """The store: takes a file and makes it durable."""
    root = examined.settings.home / "store"
    if not root.exists():
        if root.parent.exists():  # else that is said already
            yield Finding("store", "warning", f"{root} does not exist yet", "any process creates it when it starts")
        return
    incoming = root / "incoming"
    try:
        took = _sync_milliseconds(incoming if incoming.exists() else root)
    except OSError as error:
        mend = "mount it, or give this user the right to write; until then images are answered with 'out of resources'"
        yield Finding("store", "failed", f"{root} cannot be written: {error.strerror}", mend)
        return
    yield Finding("store", "ok", f"{root} on {file_system(root)}, a write is durable in {took:.1f} ms")


def space(examined: Examined) -> Iterator[Finding]:
    """Free space and free file numbers where studies are kept."""
    settings = examined.settings
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    usage, system = shutil.disk_usage(folder), os.statvfs(folder)
    seen = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.0f} GB free, about {usage.free // 10_000_000} radiographs"
    if usage.free < floor_bytes(settings):
        mend = "make room, or set [retention]; images are answered with 'out of resources' until there is more"
        yield Finding("space", "failed", f"{seen}, below [storage] minimum_free_gigabytes", mend)
    elif usage.free < _LEAST_FREE or (system.f_files and system.f_favail < 1000):
        if usage.free >= _LEAST_FREE:
            seen = f"{system.f_favail} files can still be made"
        mend = "make room, or set [retention]; soon images are answered with 'out of resources'"
        yield Finding("space", "failed", seen, mend)
    elif usage.free < _LITTLE_FREE:
        yield Finding("space", "warning", seen, "make room, or set [retention] days or free_gigabytes")
    else:
        yield Finding("space", "ok", seen)


def imports(examined: Examined) -> Iterator[Finding]:
    """The watched folder, where there is one: ours to read and to move files in, and what could not be imported."""
    try:
        folder = import_folder(examined.settings)
    except ConfigurationError as error:
        yield Finding("imports", "failed", str(error), "choose another [imports] folder")
        return
    if folder is None:
        yield Finding("imports", "ok", "no folder is watched ([imports] folder)")
    elif not folder.is_dir():
        yield Finding("imports", "failed", f"{folder} is no folder", f"mount it, or mkdir {folder}")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("imports", "failed", f"{folder} cannot be read and written", "files are moved within it")
    else:
        failed = sum(1 for _ in islice((folder / FAILED).rglob("*.reason.txt"), _MOST_COUNTED))
        seen = f"{folder}; {failed}{'+' if failed == _MOST_COUNTED else ''} files could not be imported"
        if failed:
            mend = f"each has its reason beside it in {folder / FAILED}"
            yield Finding("imports", "warning", seen, mend)
        else:
            yield Finding("imports", "ok", seen)


def _sync_milliseconds(folder: Path) -> float:
    """The median time that a small file takes to be durable, as the store writes one. OSError where it cannot be."""
    times = []
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            with probe.open("wb") as file:
                file.write(b"\0" * 65536)
                file.flush()
                os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    finally:
        probe.unlink(missing_ok=True)
    return 1000 * statistics.median(times)
