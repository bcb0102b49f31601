"""The command line. Each command is in one of `cli_*`; nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from worker import (
    __version__,
    cli_doctor,
    cli_engineer,
    cli_evaluate,
    cli_gate,
    cli_model,
    cli_read,
    cli_run,
    cli_train,
)

app = typer.Typer(
    name="cxr-triage",
    help="Reads chest radiographs beside the PACS and orders the worklist. Research software: not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli_run.add_commands(app)
cli_read.add_commands(app)
cli_gate.add_commands(app)
cli_engineer.add_commands(app)
cli_doctor.add_commands(app)
cli_model.add_commands(app)
cli_train.add_commands(app)
cli_evaluate.add_commands(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cxr-triage {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass
