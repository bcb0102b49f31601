"""The sample configuration shows every key, with the default that the program really has."""

from __future__ import annotations

import tomllib
from pathlib import Path

from worker.config.settings import Settings, load_settings

SAMPLE = Path(__file__).parents[3] / "deploy" / "cxr-triage.toml"


def test_sample_is_accepted_and_changes_nothing(tmp_path: Path) -> None:
    assert load_settings(SAMPLE, tmp_path) == load_settings(home=tmp_path)


def test_sample_names_every_key() -> None:
    content = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    expected = {
        # TOML has no word for absent, nor for a list of tables that is empty and may yet be written
        section: {key for key, default in value.items() if default is not None and (section, key) != ("gate", "rules")}
        for section, value in Settings().model_dump().items()
        if isinstance(value, dict)
    }
    assert {section: set(value) for section, value in content.items()} == expected
