"""The command line: one module for each group of commands; heavy imports wait until a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from worker import __version__
from worker.cli import admin, analyse, doctor, evaluate, gate, model, run, status, train, worklist

app = typer.Typer(
    name="cxr-triage",
    help="Analyses chest radiographs beside the PACS and orders the worklist. Research software: not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run.add_commands(app)
analyse.add_commands(app)
worklist.add_commands(app)
status.add_commands(app)
gate.add_commands(app)
admin.add_commands(app)
doctor.add_commands(app)
model.add_commands(app)
train.add_commands(app)
evaluate.add_commands(app)


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
