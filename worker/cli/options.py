"""Options that every command takes, and the one function that prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Home = Annotated[
    Path | None, typer.Option("--home", help="Folder of database, files and models.", metavar="DIR", show_default=False)
]
Config = Annotated[
    Path | None, typer.Option("--config", help="Configuration file (TOML).", metavar="FILE", show_default=False)
]
Uncertain = Annotated[
    str, typer.Option("--uncertain", help="What a label of -1 counts as: ignore (unknown), zero or one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(facts: Mapping[str, Any]) -> None:
    """Print facts as one JSON document on standard output."""
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    # bytes of a file name that are no UTF-8 are lone surrogates in Python, and as \udc.. in JSON
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def console() -> Any:  # noqa: ANN401 - rich is imported late
    from rich.console import Console

    return Console()
