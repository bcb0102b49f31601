"""What lies in a watched folder: plain files that somebody may still be writing, and things that are no files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

DONE, FAILED = "done", "failed"
ASIDE = (
    ".cxr-triage-aside-"  # a hidden name of our own begins so: what bears it is on its way to done/, failed/ or back
)
_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp")  # names that programs write under
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a symbolic link, which is not followed"),
)


class Changed(Exception):
    """The file is not (or no longer) the one that was seen: it is looked at anew."""


class TooLarge(Exception):
    """The file has more bytes than are taken; the message says how many."""


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written, replaced or renamed; ``ctime_ns`` cannot be set by any program."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_renamed(self, earlier: Stamp) -> bool:
        """Tell whether this is the earlier file, unwritten, under whatever name: renaming changes ``ctime_ns``."""
        return replace(self, ctime_ns=0) == replace(earlier, ctime_ns=0)


@dataclass(frozen=True)
class Found:
    """One entry; ``what`` says what it is where it is no plain file, "aside" what was left under a name of ours."""

    path: Path
    stamp: Stamp
    kind: Literal["file", "other", "aside"]
    what: str = ""


def entries(folder: Path) -> Iterator[Found]:
    """List files below a folder, and what cannot be one; hidden and unfinished names are left out, but ours.

    Links are never followed, so that no loop is walked and nothing outside is touched. A folder that cannot be read is
    listed as an entry of its own. OSError where ``folder`` itself cannot be read.
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
            continue  # it went meanwhile
        except OSError as error:
            with_status = _status(here)
            if with_status is not None:
                what = f"a folder that cannot be read ({error.strerror})"
                yield Found(here, Stamp.of(with_status), "other", what)


def read_unchanged(found: Found, largest: int) -> bytes:
    """Return the bytes of a file that is still the one that was seen, before and after it was read.

    Raises
    ------
    Changed
        If it went or was written meanwhile.
    OSError
        If it cannot be read.
    TooLarge
        If it has more than ``largest`` bytes.
    """
    try:
        # never waits for a pipe's writer, never follows a link that took the file's place
        descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Changed from error
    with os.fdopen(descriptor, "rb") as file:
        if Stamp.of(os.fstat(file.fileno())) != found.stamp:
            raise Changed
        if found.stamp.size > largest:
            raise TooLarge(f"{found.stamp.size} bytes; at most {largest} are taken")
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
