"""The store of received instances and made objects: files named by their hash, never by text from the wire."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from worker.storage.incoming_file import Arriving
from worker.storage.uris import STORE, resolve, uri_of

DICOM_SUFFIX = ".dcm"  # of every DICOM file, so that the same bytes have the same address


class StoreUnavailable(Exception):
    """The store cannot take or give the bytes now (full, unmounted, not permitted); the message says which."""

    exit_code: ClassVar[int] = 1


class StoredFileLost(Exception):
    """The store answers, but has this file no longer, or has other bytes in it: no later try will find it whole."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class Stored:
    uri: str
    sha256: str
    size: int


class Store(Protocol):
    """What the rest of the program asks of a store."""

    def arriving(self, room: Callable[[], str] = ...) -> Arriving:
        """Begin to take an object, which goes on while ``room`` says nothing; discard it in any case."""

    def keep(self, arriving: Arriving, suffix: str = "") -> Stored:
        """Make what has arrived durable, like `put`. `StoreUnavailable`, also for what went wrong on its way."""

    def put(self, data: bytes, suffix: str = "") -> Stored:
        """Make ``data`` durable; the same bytes with the same suffix have the same address. `StoreUnavailable`."""

    def path(self, uri: str) -> Path:
        """Return a local path of stored bytes. `StoredFileLost` if they are not there, `StoreUnavailable`."""

    def whole(self, uri: str, sha256: str) -> Path:
        """Return a local path of bytes whose SHA-256 is still their row's. `StoredFileLost`, `StoreUnavailable`."""

    def discard(self, uri: str) -> None:
        """Delete stored bytes; nothing happens if they are gone already. `StoreUnavailable`."""

    def free_bytes(self) -> int:
        """Return the free space, in bytes. OSError."""


class FolderStore:
    """A store in a (possibly mounted) folder: temporary name, fsync, rename, fsync of the folder.

    Parameters
    ----------
    root : Path
        Created if it does not exist.
    has_files : callable
        Whether files were stored in it before; asked where the folder is not there. Then it is not created: a store
        that is merely not mounted would be taken for one that has lost every file.
    begun : bool
        Whether another process has created it; whether it is there now shows when it is used.
    """

    def __init__(self, root: Path, has_files: Callable[[], bool] = lambda: False, *, begun: bool = False) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._named: set[Path] = set()  # folders whose name in their parent this process has synced: 65,792 at most
        if begun:
            return
        if not self.is_there() and has_files():
            raise StoreUnavailable(
                f"store {root} is not there, and the database names files in it: mount it; only if its files are lost "
                f"for ever, create the folder {self._incoming}"
            )
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"store {root} cannot be written: {error.strerror}") from error

    def arriving(self, room: Callable[[], str] = lambda: "") -> Arriving:
        return Arriving(self._incoming / uuid.uuid4().hex, room)

    def put(self, data: bytes, suffix: str = "") -> Stored:
        arriving = self.arriving()
        try:
            arriving.write(data)
            return self.keep(arriving, suffix)
        finally:
            arriving.discard()

    def keep(self, arriving: Arriving, suffix: str = "") -> Stored:
        try:
            digest = arriving.digest()
            target = self.root / digest[:2] / digest[2:4] / f"{digest}{suffix}"
            stored = Stored(self.uri(target), digest, len(arriving))
            if target.exists() and _sha256(target) == digest:
                # whole; but whoever renamed it into place a moment ago may not have synced the folders yet
                for folder in (self.root, target.parent.parent, target.parent):
                    _fsync_folder(folder)
                return stored
            if arriving.problem:
                raise StoreUnavailable(f"store {self.root}: {arriving.problem}")
            arriving.sync()
            self._place(arriving, target)
        except OSError as error:
            raise StoreUnavailable(f"store {self.root}: {error.strerror or error}") from error
        return stored

    def _place(self, arriving: Arriving, target: Path) -> None:
        """Rename a synced file into its folder, and sync that; a folder's own name is synced once in a process."""
        folders = (target.parent.parent, target.parent)
        for folder in folders:
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                self._named.discard(folder)
        arriving.move(target)
        # the innermost first: on a journaling file system the others then have nothing left to write
        _fsync_folder(target.parent)
        for folder in reversed(folders):
            if folder not in self._named:
                _fsync_folder(folder.parent)
                self._named.add(folder)

    def path(self, uri: str) -> Path:
        path = self._resolved(uri)
        try:
            there = path.is_file()
        except OSError as error:  # not permitted, a stale mount: nothing is known of the file
            raise StoreUnavailable(f"store {self.root}: {uri} cannot be looked for: {error.strerror}") from error
        if not there:
            if not self.is_there():
                raise StoreUnavailable(f"store {self.root} is not there: is it mounted?")
            raise StoredFileLost(f"{uri} is gone from the store")
        return path

    def uri(self, path: Path) -> str:
        """Return the address of a file in the store, the inverse of `path`."""
        return uri_of(path, self.root, STORE)

    def _resolved(self, uri: str) -> Path:
        try:
            return resolve(uri, {STORE: self.root})
        except ValueError as error:
            raise StoredFileLost(str(error)) from error

    def whole(self, uri: str, sha256: str) -> Path:
        path = self.path(uri)
        try:
            digest = _sha256(path)
        except OSError as error:
            if error.errno == errno.EIO and self._takes_a_file():
                raise StoredFileLost(f"{uri} is damaged: the disk cannot read it") from error
            raise StoreUnavailable(f"store {self.root}: {uri} cannot be read: {error.strerror}") from error
        if digest != sha256:
            raise StoredFileLost(f"{uri} is damaged: its bytes are no longer those that were stored")
        return path

    def _takes_a_file(self) -> bool:
        """Whether a new file can be written and read: an input/output error is then of one file, not of the store."""
        probe = self._incoming / uuid.uuid4().hex
        try:
            with probe.open("w+b") as file:
                file.write(b"probe")
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                return file.read() == b"probe"
        except OSError:
            return False
        finally:
            with suppress(OSError):
                probe.unlink()

    def discard(self, uri: str) -> None:
        try:
            self._resolved(uri).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"store {self.root}: {uri} cannot be deleted: {error.strerror}") from error

    def is_there(self) -> bool:
        """Whether the store's folder is there at all: one that is not mounted lacks nothing in particular."""
        return self._incoming.is_dir()

    def free_bytes(self) -> int:
        """Return the free space of the store's file system, in bytes."""
        return shutil.disk_usage(self.root).free

    def discard_leftovers(self, before: float) -> int:
        """Remove temporary files last written before ``before`` (seconds since the epoch): their writers have died.

        Raises
        ------
        StoreUnavailable
            If one cannot be removed.
        """
        removed = 0
        try:
            for leftover in self._incoming.iterdir():
                with suppress(FileNotFoundError):  # renamed into its place meanwhile
                    if leftover.stat().st_mtime < before:
                        leftover.unlink()
                        removed += 1
        except OSError as error:
            raise StoreUnavailable(f"store {self.root}: leftovers cannot be removed: {error.strerror}") from error
        return removed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
