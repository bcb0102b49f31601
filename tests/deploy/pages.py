"""The README and the pages of the site, in the order in which they are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
ELSEWHERE = {"index.md": "README.md", "deploy/README.md": "deploy/README.md"}


def documentation() -> dict[str, str]:
    """The text of each page, by its path in the repository, in the order of the site's navigation."""
    site = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    paths = [ELSEWHERE.get(page, f"docs/{page}") for page in _pages(site["nav"])]
    return {path: (REPOSITORY / path).read_text(encoding="utf-8") for path in paths}


def _pages(navigation: Any) -> list[str]:  # noqa: ANN401 - YAML
    if isinstance(navigation, str):
        return [navigation]
    entries = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for entry in entries for page in _pages(entry)]


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language on the pages that describe the program; those that deploy it need root."""
    texts = [text for path, text in documentation().items() if not path.startswith("deploy/")]
    return [block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)]
