"""The engineer's command `doctor`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import Config, Home, Json, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.doctor.check_result import CheckResult


# with --running, a warning of these checks is a failure: the processes should be up
_RUNNING = ("database", "broker", "listener", "processes")


def add_commands(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="Engineer")(doctor)


def doctor(
    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip",
            help="Leave out a check (repeatable), such as one of a process that another machine runs.",
            metavar="CHECK",
        ),
    ] = None,
    running: Annotated[
        bool,
        typer.Option("--running", help="Every process should run, on any machine: a stopped one counts as failed."),
    ] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Check every part and name a remedy for each fault. Exit code 1 when a check failed; 0 with warnings only."""
    from rich.console import Console

    from worker.doctor.examination import CHECKS, examine
    from worker.runtime.clock import now

    unknown = sorted(set(skip or ()) - set(CHECKS))
    if unknown:
        raise typer.BadParameter(
            f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}", param_hint="--skip"
        )
    with Console(stderr=True).status("checking") as status:
        findings = list(examine(home, config, now, skip or (), lambda name: status.update(f"checking {name}")))
    if running:
        findings = [
            replace(each, level="failed") if each.check in _RUNNING and each.level == "warning" else each
            for each in findings
        ]
    failed = any(finding.level == "failed" for finding in findings)
    if json:
        keys = ("check", "level", "detail", "remedy")
        print_json({"ok": not failed, "findings": [{key: getattr(each, key) for key in keys} for each in findings]})
    else:
        _print(findings)
    if failed:
        raise typer.Exit(1)


def _print(findings: Sequence[CheckResult]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a line a check, for mails and monitoring
        for each in findings:
            print(f"{each.level:<8}{each.check}: {each.detail}" + (f" -> {each.remedy}" if each.remedy else ""))
        return
    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[bold red]failed[/]"}
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        remedy = f"\n[cyan]-> {escape(each.remedy)}[/]" if each.remedy else ""
        table.add_row(marks[each.level], each.check, escape(each.detail) + remedy)
    console.print(table)
    counts = {level: sum(each.level == level for each in findings) for level in marks}
    console.print(", ".join(f"{number} {level}" for level, number in counts.items() if number))
