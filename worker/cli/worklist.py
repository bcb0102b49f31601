"""The command that shows the worklist, and finds earlier studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.cli.options import Config, Home, Json, console, print_json
from worker.installation import open_site
from worker.runtime.terminal_text import marked

if TYPE_CHECKING:
    from rich.table import Table

_Priority = Literal["HIGH", "MEDIUM", "LOW"]
_SCORED = 100  # columns of a terminal from which the score is shown
_WIDE = 130  # from which state, patient and accession number have a column each


def add_commands(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="Read")(worklist)


def worklist(
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1_000_000, help="The largest number of studies to show.")
    ] = 200,
    earlier: Annotated[
        bool, typer.Option("--earlier", help="The studies that have left the open list, the last heard of first.")
    ] = False,
    patient: Annotated[
        str, typer.Option("--patient", help="Find studies with this Patient ID, open or earlier.", metavar="ID")
    ] = "",
    accession: Annotated[
        str, typer.Option("--accession", help="Find studies with this accession number.", metavar="NUMBER")
    ] = "",
    date: Annotated[str, typer.Option("--date", help="Find studies with this study date.", metavar="YYYYMMDD")] = "",
    priority: Annotated[
        _Priority | None, typer.Option("--priority", help="Only studies with this priority.", show_default=False)
    ] = None,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show the open worklist in reading order, or find earlier studies.

    A study leaves the open list when nothing was heard of it, no image and no result, for [triage] open_hours.
    """
    from db.views.worklist import Wanted
    from worker.worklist.listing import earlier_facts, open_since, worklist_facts

    site = open_site(home, config).existing()
    if earlier or patient or accession or date:
        wanted = Wanted(
            until=open_since(site) if earlier else None,
            patient_id=patient,
            accession_number=accession,
            study_date=date.replace("-", ""),
            priority=priority or "",
        )
        facts = earlier_facts(site, limit, wanted)
    else:
        facts = worklist_facts(site, limit, priority or "")
    if json:
        print_json(facts)
        return
    out = console()
    if facts["model"] is None:
        out.print("[yellow]no model is active: studies are received and wait[/]")
    if facts["items"]:
        out.print(_table(facts["items"], out.width))
    out.print(f"{_count(facts, site.settings.triage.open_hours)}. AI results: not for diagnosis", soft_wrap=True)


def _table(items: list[dict[str, Any]], width: int) -> Table:
    """The studies as a table; reasons and findings get what the other columns, fewer on a narrow terminal, leave."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), expand=True)
    table.add_column("priority", no_wrap=True)
    table.add_column("waiting", no_wrap=True)
    if width >= _WIDE:
        table.add_column("state", no_wrap=True)
        table.add_column("patient", overflow="fold", max_width=24)
        table.add_column("accession", overflow="fold", max_width=18)
    else:
        table.add_column("patient, accession", overflow="fold", max_width=18)
    table.add_column("flags, then findings", overflow="fold", ratio=1)
    for item in items:
        patient, accession = marked(item["patient_id"]), marked(item["accession_number"])
        if width >= _WIDE:
            where = [item["state"].replace("_", " "), patient, accession]
        else:
            where = ["\n".join(each for each in (patient, accession) if each)]
        table.add_row(
            f"{item['priority']:<6} {item['score']:.2f}" if width >= _SCORED else item["priority"],
            _duration(item["waiting_seconds"]),
            *where,
            _says(item, with_state=width < _WIDE),
        )
    return table


def _says(item: dict[str, Any], *, with_state: bool) -> str:
    parts = [f"! {flag}" for flag in item["flags"]]
    state = "" if item["state"] == "done" or not with_state else item["state"].replace("_", " ")
    if state or item["reason"]:
        parts.append(": ".join(part for part in (state, item["reason"]) if part))
    positive = [
        f"{finding['label']} {finding['probability']:.2f}" for finding in item["findings"] if finding["positive"]
    ]
    if item["priority"] == "LOW":
        parts.append(f"looked for: {', '.join(item['looked_for'])}; nothing else")
    elif item["findings"]:
        parts.append(", ".join(positive) or "no finding at or above its threshold")
    return "\n".join(marked(part) for part in parts)


def _count(facts: dict[str, Any], open_hours: float) -> str:
    number, total = len(facts["items"]), facts["total"]
    words = f"{number} {'study' if number == 1 else 'studies'}"
    if facts["list"] == "open":
        of = f" of {total}" if total > number else ""
        return f"{words}{of} of the last {open_hours:g} h; earlier ones: --earlier"
    return words + (" found" if facts["list"] == "found" else f" of which nothing was heard for {open_hours:g} h")


def _duration(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
