"""Checks of storage: home folder, database, store, free space."""

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
from worker.doctor.check_result import CheckResult, Examined
from worker.intake.back_pressure import floor_bytes
from worker.intake.folder.scan import FAILED
from worker.intake.folder.watcher import import_folder

_SLOW_SYNC = 50.0  # milliseconds; five syncs precede an acknowledgement: the file, its folders, the database
_SYNCS = 5
_LEAST_FREE = 1e9  # bytes; about a hundred radiographs
_LITTLE_FREE = 10e9
_MOST_COUNTED = 1000


def home(examined: Examined) -> Iterator[CheckResult]:
    """The home folder: exists, is writable by us, is closed to other users, and syncs quickly."""
    folder = examined.settings.home
    if not folder.exists():
        parent = next(path for path in folder.parents if path.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield CheckResult("home", "warning", f"{folder} does not exist yet", "'cxr-triage up' creates it")
        else:
            yield CheckResult("home", "failed", f"{folder} does not exist, {parent} is not writable", _OTHER_HOME)
        return
    try:
        took = sync_milliseconds(folder)
    except OSError as error:
        yield CheckResult("home", "failed", f"{folder} cannot be written: {error.strerror}", _OTHER_HOME)
        return
    kind = file_system(folder)
    detail = f"{folder} on {kind}, a write is durable in {took:.1f} ms"
    if took > _SLOW_SYNC:
        yield CheckResult(
            "home",
            "warning",
            detail,
            "images are acknowledged slowly: use a local solid-state disk",
        )
    elif kind in ("tmpfs", "ramfs"):
        yield CheckResult("home", "warning", f"{detail}: its content is lost when the machine stops", _OTHER_HOME)
    elif folder.stat().st_uid != os.geteuid():
        yield CheckResult(
            "home", "warning", f"{detail}; it belongs to another user", f"run every command as the owner of {folder}"
        )
    elif folder.stat().st_mode & 0o007:
        yield CheckResult("home", "warning", f"{detail}; every user can read it", f"chmod o= {folder}")
    else:
        yield CheckResult("home", "ok", detail)


_OTHER_HOME = "choose another with --home or [storage] home"


def database(examined: Examined) -> Iterator[CheckResult]:
    """The database: answers, has this program's schema, and keeps committed rows through a power cut."""
    settings = examined.settings
    if not settings.has_database:
        if settings.home.exists():  # else the check of the home folder reports it
            yield CheckResult(
                "database", "warning", "none yet (SQLite in the home folder)", "'cxr-triage up' creates it"
            )
        return
    try:
        with Database(settings.database_url) as opened:
            found = condition(opened)
    except DatabaseUnavailable as error:
        remedy = "start it, or correct [database] url" if settings.database.url else "restore the file from a backup"
        yield CheckResult("database", "failed", str(error), remedy)
        return
    stated = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    detail = f"{opened.place}: {found.product}, schema {found.revision or 'empty'}, {stated}"
    if found.revision is None:
        yield CheckResult("database", "warning", detail, "any process creates the schema when it starts")
    elif found.revision != found.needed:
        remedy = "stop all processes, back up the database, run 'cxr-triage db upgrade'"
        if found.revision > found.needed:
            remedy = "a newer program has upgraded it: run that program, or restore the backup from before its upgrade"
        yield CheckResult("database", "failed", f"{detail}; this program needs {found.needed}", remedy)
    elif found.faults:
        remedy = "correct the named settings: until then a power cut can lose an acknowledged image"
        yield CheckResult("database", "failed", f"{detail}; {'; '.join(found.faults)}", remedy)
    else:
        yield CheckResult("database", "ok", detail)


def store(examined: Examined) -> Iterator[CheckResult]:
    """The store: accepts a file and makes it durable."""
    root = examined.settings.home / "store"
    if not root.exists():
        if root.parent.exists():  # else the check of the home folder reports it
            yield CheckResult("store", "warning", f"{root} does not exist yet", "any process creates it when it starts")
        return
    incoming = root / "incoming"
    try:
        took = sync_milliseconds(incoming if incoming.exists() else root)
    except OSError as error:
        remedy = "mount it, or permit writing; until then images are answered with 'out of resources' (0xA700)"
        yield CheckResult("store", "failed", f"{root} cannot be written: {error.strerror}", remedy)
        return
    yield CheckResult("store", "ok", f"{root} on {file_system(root)}, a write is durable in {took:.1f} ms")


def space(examined: Examined) -> Iterator[CheckResult]:
    """Free space and free inodes of the file system that holds the studies."""
    settings = examined.settings
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    usage, system = shutil.disk_usage(folder), os.statvfs(folder)
    detail = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.0f} GB free, about {usage.free // 10_000_000} radiographs"
    if usage.free < floor_bytes(settings):
        remedy = "free space, or set [retention]; until then images are answered with 'out of resources' (0xA700)"
        yield CheckResult("space", "failed", f"{detail}, below [storage] minimum_free_gigabytes", remedy)
    elif usage.free < _LEAST_FREE or (system.f_files and system.f_favail < 1000):
        if usage.free >= _LEAST_FREE:
            detail = f"{system.f_favail} files can still be created (inodes)"
        remedy = "free space, or set [retention], before images are answered with 'out of resources' (0xA700)"
        yield CheckResult("space", "failed", detail, remedy)
    elif usage.free < _LITTLE_FREE:
        yield CheckResult("space", "warning", detail, "free space, or set [retention] days or free_gigabytes")
    else:
        yield CheckResult("space", "ok", detail)


def imports(examined: Examined) -> Iterator[CheckResult]:
    """The watched folder, if configured: readable, writable, and how many imports failed."""
    try:
        folder = import_folder(examined.settings)
    except ConfigurationError as error:
        yield CheckResult("imports", "failed", str(error), "choose another [imports] folder")
        return
    if folder is None:
        yield CheckResult("imports", "ok", "no folder is watched ([imports] folder)")
    elif not folder.is_dir():
        yield CheckResult("imports", "failed", f"{folder} is not a folder", f"mount it, or mkdir {folder}")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield CheckResult(
            "imports",
            "failed",
            f"no permission to read and write {folder}",
            "permit both: files are moved within it",
        )
    else:
        failed = sum(1 for _ in islice((folder / FAILED).rglob("*.reason.txt"), _MOST_COUNTED))
        detail = f"{folder}; {failed}{'+' if failed == _MOST_COUNTED else ''} files could not be imported"
        if failed:
            remedy = f"each file lies with its reason in {folder / FAILED}"
            yield CheckResult("imports", "warning", detail, remedy)
        else:
            yield CheckResult("imports", "ok", detail)


def sync_milliseconds(folder: Path) -> float:
    """The median time until a small file is durable, written as the store writes. OSError if it cannot be written."""
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
