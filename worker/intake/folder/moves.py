"""Moves in a watched folder that never touch a file other than the one that was read, and never overwrite one.

A file is first given a hidden name that nobody else uses; what then lies under that name can be compared and moved at
leisure. Whoever dies in between leaves it under the hidden name, where the next scan finds it.
"""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

from worker.intake.folder.scan import ASIDE, Stamp


def set_aside(path: Path) -> Path:
    """Give what has this path now a hidden name beside it, and return that. OSError where it cannot be."""
    aside = path.with_name(f"{ASIDE}{uuid.uuid4().hex}-{short(path.name)}")
    path.rename(aside)
    return aside


def put_back(aside: Path, path: Path | None = None) -> Path:
    """Return what was set aside to its path or, where another has that by now, to a new name beside it.

    Parameters
    ----------
    path
        Where it was; None: the hidden name tells.

    Returns
    -------
    Path
        Where it lies now; the next scan finds it there.

    Raises
    ------
    OSError
        If it cannot be moved: it lies where it did.
    """
    path = path or aside.with_name(aside.name.removeprefix(ASIDE).partition("-")[2] or "unnamed")
    if stat.S_ISDIR(aside.lstat().st_mode):
        return aside.rename(path)  # a folder takes the place of an empty one at most
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        if _is_same(aside, path):  # whoever put it back died before the hidden name was gone
            aside.unlink()
            return path
        # no empty file holds the name meanwhile, as in place(): a film might be renamed over it
        return aside.rename(_another(path))
    aside.unlink(missing_ok=True)
    return path


def place(source: Path, target: Path, reason: str = "") -> None:
    """Move to ``target`` or, where another has that name, to a new one beside it; with its reason beside it, if any.

    Raises
    ------
    OSError
        If it cannot be moved: it lies where it did.
    """
    wanted = target
    while True:
        try:
            told = _tell(target, reason) if reason else None  # first, so that no file ever lies there without it
            try:
                _move(source, target)
            except BaseException:
                if told is not None:
                    told.unlink()
                raise
        except FileExistsError:
            target = _another(wanted)
        else:
            return


def short(name: str) -> str:
    """A name to which something can be added: file systems take 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:200])


def _tell(target: Path, reason: str) -> Path:
    """Write why a file failed to a file of its own beside it. FileExistsError where another's reason is there."""
    told = target.with_name(f"{short(target.name)}.reason.txt")
    with told.open("x", encoding="utf-8") as file:
        try:
            file.write(f"{reason}\n")
            file.flush()
        except OSError:
            told.unlink()
            raise
    return told


def _move(source: Path, target: Path) -> None:
    """Rename, but over no other: FileExistsError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a folder, a file of another user, a file system without links: the name is taken first
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
