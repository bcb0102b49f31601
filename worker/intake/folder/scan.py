"""The content of a watched folder: files that may still be written, and entries that are not regular files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

DONE, FAILED = "done", "failed"
ASIDE = ".cxr-triage-aside-"  # prefix of our own hidden names: such a file is being moved to done/, failed/ or back
# suffixes of files that a program is still writing
_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp")
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a symbolic link, which is not followed"),
)


class Changed(Exception):
    """The file changed since the scan: the next scan looks at it again."""


class TooLarge(Exception):
    """The file is larger than the limit; the message gives both sizes."""


@dataclass(frozen=True)
class Stamp:
    """Values that change when a file is written, replaced or renamed; no program can set ``ctime_ns``."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_renamed(self, earlier: Stamp) -> bool:
        """Whether this is the earlier file, unchanged except for its name: renaming changes ``ctime_ns`` alone."""
        return replace(self, ctime_ns=0) == replace(earlier, ctime_ns=0)


@dataclass(frozen=True)
class Found:
    """One entry. ``what`` describes one that is not a regular file; kind "aside": left under our hidden name."""

    path: Path
    stamp: Stamp
    kind: Literal["file", "other", "aside"]
    what: str = ""


def entries(folder: Path) -> Iterator[Found]:
    """List files and other entries below a folder; hidden and unfinished names are left out, except our own.

    Symbolic links are not followed: they may form loops or leave the folder. A subfolder that cannot be read is listed
    as an entry. OSError if ``folder`` itself cannot be read.
    """
    with os.scandir(folder) as own:
        pending = [Path(entry.path) for entry in _folders(own, folder)]
    yield from _files(folder)
    while pending:
        here = pending.pop()
        try:
            with os.scandir(here) as found:
                pending += [Path(entry.path) for entry in _folders(found, folder)]
            yield from _files(here)
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except OSError as error:
            with_status = _status(here)
            if with_status is not None:
                what = f"a folder that cannot be read ({error.strerror})"
                yield Found(here, Stamp.of(with_status), "other", what)


def read_unchanged(found: Found, largest: int) -> bytes:
    """Return the bytes of a file, provided that it did not change between the scan and the end of reading.

    Raises
    ------
    Changed
        If it was removed or written meanwhile.
    OSError
        If it cannot be read.
    TooLarge
        If it has more than ``largest`` bytes.
    """
    try:
        # neither blocks on a pipe nor follows a link that replaced the file
        descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Changed from error
    with os.fdopen(descriptor, "rb") as file:
        if Stamp.of(os.fstat(file.fileno())) != found.stamp:
            raise Changed
        if found.stamp.size > largest:
            raise TooLarge(f"{found.stamp.size} bytes; at most {largest} are imported")
        data = file.read(found.stamp.size + 1)
        if len(data) != found.stamp.size or Stamp.of(os.fstat(file.fileno())) != found.stamp:
            raise Changed
    return data


def _folders(found: Iterator[os.DirEntry[str]], top: Path) -> list[os.DirEntry[str]]:
    own = {str(top / DONE), str(top / FAILED)}
    return [
        entry
        for entry in found
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and entry.path not in own
    ]


def _files(folder: Path) -> Iterator[Found]:
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith(ASIDE):
                if (status := _status(Path(entry.path))) is not None:
                    yield Found(Path(entry.path), Stamp.of(status), "aside")
                continue
            if entry.name.startswith(".") or entry.name.endswith("~") or entry.name.lower().endswith(_UNFINISHED):
                continue
            status = _status(Path(entry.path))
            if status is None or stat.S_ISDIR(status.st_mode):
                continue
            if stat.S_ISREG(status.st_mode):
                yield Found(Path(entry.path), Stamp.of(status), "file")
            else:
                what = next((words for test, words in _KINDS if test(status.st_mode)), "no plain file")
                yield Found(Path(entry.path), Stamp.of(status), "other", what)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None
