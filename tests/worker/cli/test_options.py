"""Every command knows the options that every command takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.app import app


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    """Every command that does something, with the words that call it; a group only has others."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, each in inner.items():
        yield from commands(each, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_there_are_the_commands_of_the_program() -> None:
    assert {("up",), ("train",), ("db", "upgrade"), ("model", "activate"), ("gate", "rules")} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_takes_a_home_and_a_configuration(words: tuple[str, ...]) -> None:
    options = {name for parameter in COMMANDS[words].params for name in parameter.opts}
    assert {"--home", "--config"} <= options
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert "--home" in shown.stdout
    assert "--config" in shown.stdout
