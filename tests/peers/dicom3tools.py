"""dciodvfy and dcentvfy: a foreign judgement of every DICOM object that is made here."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers.programs import require_peer


@dataclass(frozen=True)
class Verdict:
    """The validator's lines, by kind."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    output: str


class Dicom3tools:
    """Both validators."""

    def __init__(self) -> None:
        self._dciodvfy = require_peer("dciodvfy")
        self._dcentvfy = require_peer("dcentvfy")

    def object(self, file: Path) -> Verdict:
        """Whether one object is a legal instance of its SOP class (dciodvfy)."""
        return _judge([self._dciodvfy, str(file)])

    def entities(self, files: Sequence[Path]) -> Verdict:
        """Whether objects that share a patient, study or series agree about it (dcentvfy)."""
        return _judge([self._dcentvfy, *map(str, files)])


def _judge(arguments: list[str]) -> Verdict:
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    output = (done.stdout + done.stderr).decode("utf-8", errors="replace")
    assert output.strip() or done.returncode == 0, f"{arguments[0]} said nothing and failed with {done.returncode}"
    lines = output.splitlines()
    return Verdict(
        errors=tuple(line for line in lines if line.startswith("Error")),
        warnings=tuple(line for line in lines if line.startswith("Warning")),
        output=output,
    )
