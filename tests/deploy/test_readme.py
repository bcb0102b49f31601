"""The deployment guide names only what is there."""

from __future__ import annotations

import re

import yaml

from tests.deploy.texts import DEPLOY

TEXT = (DEPLOY / "README.md").read_text(encoding="utf-8")


def test_every_file_of_the_guide_is_there() -> None:
    cells = re.findall(r"^\| [^|]+ \| (`[^|]+`) \|$", TEXT, flags=re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    named += [name.removeprefix("deploy/") for name in re.findall(r"deploy/[\w./-]+\w", TEXT)]
    assert len(named) > 8
    for name in named:
        assert list(DEPLOY.glob(name.rstrip("/"))), name


def test_every_alert_is_explained_and_none_is_invented() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert set(re.findall(r"`(CxrTriage\w+)`", TEXT)) == {rule["alert"] for rule in rules}
