"""Which processes of an installation run on this machine, as the system's own list of processes shows them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.config.settings import Storage

PROCESSES = ("listen", "work", "deliver", "schedule", "web")
_NAMES = frozenset(("up", *PROCESSES))


@dataclass(frozen=True)
class Running:
    """One process; ``children`` are a worker's, ``resident_bytes`` counts them too."""

    name: str
    pid: int
    children: int
    resident_bytes: int


def running_processes(home: Path) -> list[Running]:
    """Return the processes that run on the installation under ``home``, in the order of their start.

    A process whose home cannot be read (another user's, without it on its command line) counts as this one's.
    """
    ours: dict[int, tuple[str, psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            name = process_name(words)
            if name is None:
                continue
            its_home = _home(words, _environment(process), _folder(process))
            if its_home in (None, home):
                ours[process.pid] = (name, process)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is not ours to look at
    found = []
    for name, process in ours.values():
        try:
            if ours.get(process.ppid(), ("", process))[0] == name:
                continue  # a worker's child, forked with its command line
            # what `up` started is listed by itself
            family = [process, *(process.children(recursive=True) if name != "up" else ())]
            resident = sum(member.memory_info().rss for member in family)
            found.append((process.create_time(), Running(name, process.pid, len(family) - 1, int(resident))))
        except (psutil.Error, OSError):
            continue
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def process_name(words: Sequence[str]) -> str | None:
    """Return which of our processes a command line is (``listen`` ...), or None for any other program."""
    for index, word in enumerate(words[:-1]):
        is_ours = Path(word).name == "cxr-triage" or (word == "worker" and words[max(0, index - 1)] == "-m")
        if is_ours and words[index + 1] in _NAMES and index <= 4:
            return words[index + 1]
    return None


def _home(words: Sequence[str], environment: Mapping[str, str] | None, folder: Path | None) -> Path | None:
    """The home folder by the order that settings are read in; None where it cannot be known."""
    named = _option(words, "--home")
    if named is None and environment is None:
        return None
    values = environment or {}
    named = named or values.get("CXR_TRIAGE_STORAGE_HOME")
    config = _option(words, "--config") or values.get("CXR_TRIAGE_CONFIG")
    if named is None and config is not None:
        try:
            path = (folder or Path()) / config
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            named = content.get("storage", {}).get("home")
        except (OSError, ValueError, AttributeError):
            return None
    home = Path(named).expanduser() if named else Storage().home.expanduser()
    return home if home.is_absolute() else (folder / home if folder else None)


def _option(words: Sequence[str], name: str) -> str | None:
    for index, word in enumerate(words):
        if word == name and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return None


def _environment(process: psutil.Process) -> Mapping[str, str] | None:
    try:
        return dict(process.environ())
    except (psutil.Error, OSError):
        return None


def _folder(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):
        return None
