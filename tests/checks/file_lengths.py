"""Fails when a Python file has grown past 400 lines without saying why.

A file that must be longer says so within its first ten lines: ``# over 400 lines because ...``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 400
EXCUSE = "# over 400 lines because "
EXCUSE_WITHIN_LINES = 10


def too_long(path: Path) -> int | None:
    """The number of lines of `path` where they are too many and unexplained, else None."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) <= LIMIT:
        return None
    for line in lines[:EXCUSE_WITHIN_LINES]:
        reason = line.strip().removeprefix(EXCUSE)
        if reason != line.strip() and reason.strip():
            return None
    return len(lines)


def python_files(folders: list[str]) -> Iterator[Path]:
    """Every ``.py`` file in the folders, in a stable order."""
    for folder in folders:
        yield from sorted(Path(folder).rglob("*.py"))


def main(folders: list[str]) -> int:
    """Print each file that is too long; 1 when there is one."""
    faults = [(path, lines) for path in python_files(folders) if (lines := too_long(path)) is not None]
    for path, lines in faults:
        print(f"{path}: {lines} lines; at most {LIMIT}, or a line '{EXCUSE}...' among its first {EXCUSE_WITHIN_LINES}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
