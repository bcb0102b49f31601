"""The engineer's command `doctor`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import Config, Home, Json, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.doctor.check_result import Finding


# what only warns where a machine may be at rest, and is a failure where it should be at work
_RUNNING = ("database", "broker", "listener", "processes")


def add_commands(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="Engineer")(doctor)


def doctor(
    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip", help="Leave a check out (repeatable), such as what another machine runs.", metavar="CHECK"
        ),
    ] = None,
    running: Annotated[
        bool,
        typer.Option("--running", help="All of it should run here now: what is stopped counts as failed."),
    ] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Look at every part and say how to mend what is amiss. Exit code 1 when anything failed; warnings do not."""
    from rich.console import Console

    from worker.doctor.examination import CHECKS, examine
    from worker.runtime.clock import now

    unknown = sorted(set(skip or ()) - set(CHECKS))
    if unknown:
        raise typer.BadParameter(
            f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}", param_hint="--skip"
        )
    with Console(stderr=True).status("looking") as status:
        findings = list(examine(home, config, now, skip or (), lambda name: status.update(f"looking at {name}")))
    if running:
        findings = [
            replace(each, level="failed") if each.check in _RUNNING and each.level == "warning" else each
            for each in findings
        ]
    failed = any(finding.level == "failed" for finding in findings)
    if json:
        keys = ("check", "level", "seen", "mend")
        print_json({"ok": not failed, "findings": [{key: getattr(each, key) for key in keys} for each in findings]})
    else:
        _print(findings)
    if failed:
        raise typer.Exit(1)


def _print(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a line a finding, for mails and monitoring
        for each in findings:
            print(f"{each.level:<8}{each.check}: {each.seen}" + (f" -> {each.mend}" if each.mend else ""))
        return
    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[bold red]failed[/]"}
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        mend = f"\n[cyan]-> {escape(each.mend)}[/]" if each.mend else ""
        table.add_row(marks[each.level], each.check, escape(each.seen) + mend)
    console.print(table)
    counts = {level: sum(each.level == level for each in findings) for level in marks}
    console.print(", ".join(f"{number} {level}" for level, number in counts.items() if number))
