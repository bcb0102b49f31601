"""Reading the files of `deploy/`, and running the linters that judge them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.peers.programs import absent

DEPLOY = Path(__file__).parents[2] / "deploy"


def compose() -> dict[str, Any]:
    """compose.yaml, anchors and merges resolved, ``${VAR:?...}`` replaced by ``secret``."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", "secret", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return dict(yaml.safe_load(text))


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """Every document of `deploy/kubernetes`, with its file's name."""
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [
        (path.name, document) for path in files for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


def judge(program: str, *arguments: str | Path, install: str, typed: str = "", may_object: bool = False) -> str:
    """Run a linter and return what it said; fails the test where it objects, skips it where it is not installed."""
    beside = Path(sys.executable).parent / program
    path = str(beside) if beside.exists() else shutil.which(program)
    if path is None:
        absent(f"peer {program}: {install}")
    command = [path, *map(str, arguments)]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    assert may_object or done.returncode == 0, said
    return said
