"""Moves in a watched folder that affect only the file that was read, and never overwrite another.

A file is first renamed to a unique hidden name; what lies under that name can then be compared and moved safely. If the
process dies in between, the file keeps the hidden name, where the next scan finds it.
"""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

from worker.intake.folder.scan import ASIDE, Stamp


def set_aside(path: Path) -> Path:
    """Rename the file at this path to a hidden name in the same folder; return that. OSError if that fails."""
    aside = path.with_name(f"{ASIDE}{uuid.uuid4().hex}-{short(path.name)}")
    path.rename(aside)
    return aside


def put_back(aside: Path, path: Path | None = None) -> Path:
    """Move a file that was set aside back to its path or, if that is taken, to a new name beside it.

    Parameters
    ----------
    path
        The original path; None: it is derived from the hidden name.

    Returns
    -------
    Path
        Its new path, where the next scan finds it.

    Raises
    ------
    OSError
        If it cannot be moved: it stays where it is.
    """
    path = path or aside.with_name(aside.name.removeprefix(ASIDE).partition("-")[2] or "unnamed")
    if stat.S_ISDIR(aside.lstat().st_mode):
        return aside.rename(path)  # a folder can replace only an empty folder
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        if _is_same(aside, path):  # the process that put it back died before it removed the hidden name
            aside.unlink()
            return path
        # not reserved by an empty file, as in place(): an incoming image could be renamed over it
        return aside.rename(_another(path))
    aside.unlink(missing_ok=True)
    return path


def place(source: Path, target: Path, reason: str = "") -> None:
    """Move to ``target`` or, if that exists, to a new name beside it; a reason is written beside it.

    Raises
    ------
    OSError
        If it cannot be moved: it stays where it is.
    """
    wanted = target
    while True:
        try:
            # written first, so that no file lies there without its reason
            reason_file = _write_reason(target, reason) if reason else None
            try:
                _move(source, target)
            except BaseException:
                if reason_file is not None:
                    reason_file.unlink()
                raise
        except FileExistsError:
            target = _another(wanted)
        else:
            return


def short(name: str) -> str:
    """A name short enough for a suffix: file systems allow 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:200])


def _write_reason(target: Path, reason: str) -> Path:
    """Write the reason of a failure beside the file. FileExistsError if a reason file of that name exists."""
    reason_file = target.with_name(f"{short(target.name)}.reason.txt")
    with reason_file.open("x", encoding="utf-8") as file:
        try:
            file.write(f"{reason}\n")
            file.flush()
        except OSError:
            reason_file.unlink()
            raise
    return reason_file


def _move(source: Path, target: Path) -> None:
    """Rename without overwriting: FileExistsError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a folder, another user's file, or a file system without hard links: reserve the name first
        if stat.S_ISDIR(source.lstat().st_mode):
            target.mkdir()
            take_back = target.rmdir
        else:
            target.touch(exist_ok=False)
            take_back = target.unlink
        try:
            source.rename(target)
        except OSError:
            take_back()
            raise
    else:
        source.unlink(missing_ok=True)


def _another(path: Path) -> Path:
    return path.with_name(f"{uuid.uuid4().hex[:8]}-{short(path.name)}")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return Stamp.of(one.lstat()) == Stamp.of(other.lstat())
    except OSError:
        return False
