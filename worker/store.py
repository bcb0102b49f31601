"""Where received instances and made objects lie: files addressed by their hash, never by text from the wire."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_SCHEME = "store:"


class StoreUnavailable(Exception):
    """The store cannot take or give the bytes now (full, unmounted, not permitted); the message says which."""


@dataclass(frozen=True)
class Stored:
    uri: str
    sha256: str
    size: int


class Store(Protocol):
    """What the rest of the program asks of a store."""

    def put(self, data: bytes) -> Stored:
        """Make ``data`` durable and return its address; the same bytes have the same address. `StoreUnavailable`."""

    def path(self, uri: str) -> Path:
        """Return a local path of stored bytes. `StoreUnavailable` if they are not there."""

    def discard(self, uri: str) -> None:
        """Delete stored bytes; nothing happens if they are gone already. `StoreUnavailable`."""


class FolderStore:
    """A store in a (possibly mounted) folder: temporary name, fsync, rename, fsync of the folder.

    Parameters
    ----------
    root : Path
        Created if it does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"store {root} cannot be written: {error.strerror}") from error

    def put(self, data: bytes) -> Stored:
        digest = hashlib.sha256(data).hexdigest()
        relative = f"{digest[:2]}/{digest[2:4]}/{digest}.dcm"
        target = self.root / relative
        stored = Stored(_SCHEME + relative, digest, len(data))
        temporary = self._incoming / uuid.uuid4().hex
        try:
            if target.exists() and target.stat().st_size == len(data):
                return stored  # renamed into place before, so it is whole and durable
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            for folder in (target.parent.parent, target.parent):
                if not folder.exists():
                    folder.mkdir(exist_ok=True)
                    _fsync_folder(folder.parent)
            temporary.rename(target)
            _fsync_folder(target.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreUnavailable(f"store {self.root}: {error.strerror or error}") from error
        return stored

    def path(self, uri: str) -> Path:
        path = self.root / uri.removeprefix(_SCHEME)
        if not path.is_file():
            raise StoreUnavailable(f"{uri} is not in the store {self.root}")
        return path

    def discard(self, uri: str) -> None:
        try:
            (self.root / uri.removeprefix(_SCHEME)).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"store {self.root}: {uri} cannot be deleted: {error.strerror}") from error

    def free_bytes(self) -> int:
        """Return the free space of the store's file system, in bytes."""
        return shutil.disk_usage(self.root).free

    def discard_leftovers(self) -> int:
        """Remove half-written temporary files of processes that died; only call it where nothing else writes here."""
        leftovers = list(self._incoming.iterdir())
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
