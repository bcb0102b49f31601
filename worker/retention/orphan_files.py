"""Files in the store that no row names: a process died between writing the file and recording it.

They were never acknowledged, and their senders sent them again. They are set aside first and deleted much later:
were the database a restored backup, or another store's, these could be the only copies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import structlog

from db.engine.file_locks import hold_file
from db.engine.session import Database
from db.retention import erasure
from worker.runtime.timeouts import UNREFERENCED_AGE, UNREFERENCED_KEPT
from worker.storage.store import FolderStore, StoreUnavailable

_log = structlog.get_logger(__name__)

ASIDE = "unreferenced"
_FOLDERS = 256  # of the store's first level: one is looked through at a time
_AT_ONCE = 200  # addresses a query
_SUSPICIOUS = 20  # files of one folder in one look: more than processes that died explain


def set_aside(database: Database, store: FolderStore, moment: datetime) -> int:
    """Look through the part of the store whose turn it is; returns how many files were set aside.

    Raises
    ------
    db.engine.session.DatabaseUnavailable, worker.storage.store.StoreUnavailable
    """
    try:
        _delete_old(store.root / ASIDE, (moment - UNREFERENCED_KEPT).timestamp())
        return _set_aside(database, store, moment)
    except OSError as error:
        raise StoreUnavailable(f"store {store.root} cannot be looked through: {error.strerror}") from error


def _set_aside(database: Database, store: FolderStore, moment: datetime) -> int:
    before = (moment - UNREFERENCED_AGE).timestamp()
    files = _old_files(store.root / f"{int(moment.timestamp()) // 60 % _FOLDERS:02x}", before)
    orphans: list[Path] = []
    while chunk := {store.uri(path): path for path in islice(files, _AT_ONCE)}:
        with database.read() as session:
            known = erasure.referenced_of(session, list(chunk))
        orphans += [path for uri, path in chunk.items() if uri not in known]
    if len(orphans) > _SUSPICIOUS:
        _log.error("files that no row names are left alone: is the database this store's?", files=len(orphans))
        return 0
    moved = sum(_move(database, store, path, before) for path in orphans)
    if moved:
        _log.warning("files that no row names were set aside", files=moved)
    return moved


def _move(database: Database, store: FolderStore, path: Path, before: float) -> bool:
    aside = store.root / ASIDE
    aside.mkdir(exist_ok=True)
    with database.write() as session:  # who records it meanwhile comes first, or finds it gone and stores it anew
        hold_file(session, store.uri(path))
        if erasure.referenced(session, store.uri(path)):
            return False
        try:
            if path.stat().st_mtime >= before:
                return False
            os.utime(path)  # from now on it is kept for its time: so before it lies where another scheduler deletes
            path.rename(aside / path.name)
        except FileNotFoundError:  # another scheduler was faster
            return False
    return True


def _old_files(folder: Path, before: float) -> Iterator[Path]:
    for inner in _entries(folder):
        if inner.is_dir(follow_symlinks=False):
            for entry in _entries(Path(inner.path)):
                if entry.is_file(follow_symlinks=False) and _is_older(entry, before):
                    yield Path(entry.path)


def _delete_old(folder: Path, before: float) -> None:
    for entry in _entries(folder):
        if _is_older(entry, before):
            Path(entry.path).unlink(missing_ok=True)


def _is_older(entry: os.DirEntry[str], before: float) -> bool:
    try:
        return entry.stat(follow_symlinks=False).st_mtime < before
    except FileNotFoundError:  # deleted or moved meanwhile
        return False


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            yield from found
    except FileNotFoundError:
        return
