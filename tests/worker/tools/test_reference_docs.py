"""The reference pages are what the program says of itself today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker.config.settings import Settings
from worker.tools.reference_docs import pages, sample_comments

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["configuration.md", "cli.md"])
def test_committed_page_is_the_one_the_program_writes(name: str) -> None:
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == pages()[name], (
        f"docs/{name} is out of date: run 'python -m worker.tools.reference_docs' and commit it"
    )


def test_every_key_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+? \| .+? \| (.*?) \|", pages()["configuration.md"], flags=re.MULTILINE)
    keys = [key for section in Settings().model_dump().values() if isinstance(section, dict) for key in section]
    assert set(keys) <= {key for key, _ in rows}
    assert not [key for key, meaning in rows if not meaning.strip()], "say it in a comment of deploy/cxr-triage.toml"


def test_every_environment_variable_of_the_page_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = re.findall(r"`(CXR_TRIAGE_[A-Z_]+)` \|$", pages()["configuration.md"], flags=re.MULTILINE)
    monkeypatch.setenv("CXR_TRIAGE_DICOM_PORT", "1234")
    assert Settings().dicom.port == 1234
    expected = {
        f"CXR_TRIAGE_{section}_{key}".upper()
        for section, values in Settings().model_dump().items()
        if isinstance(values, dict)
        for key in values
    }
    assert set(variables) == expected


def test_comments_are_those_of_their_own_key() -> None:
    text = '[a]  # of a\nx = "#1"  # of x\ny = [1]\n# [[b]]   # of b\n# z = 4 # of z\n# a remark\n'
    assert sample_comments(text) == {"a": {"": "of a", "x": "of x", "y": ""}, "b": {"": "of b", "z": "of z"}}


def test_every_command_has_a_page_entry_that_says_what_it_does() -> None:
    page = pages()["cli.md"]
    for command in ("up", "listen", "work", "deliver", "schedule", "web", "doctor", "model activate", "db upgrade"):
        assert re.search(rf"^## `cxr-triage {command}`\n\n\w.+\n", page, flags=re.MULTILINE), command
    assert "| `--skip` `CHECK` |" in page
