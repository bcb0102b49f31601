"""Commands that read: analyse, worklist, status, ledger."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli_options import Config, Home, Json, print_json
from worker.site import Site, open_site
from worker.terminal import marked, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.grounds import ActiveModels
    from model.bundle import Bundle


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (analyse, worklist, status, ledger):
        app.command(rich_help_panel="Read")(command)


def analyse(
    paths: Annotated[list[Path], typer.Argument(help="DICOM, PNG, JPEG, folder or DICOMDIR.", metavar="PATH...")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write overlays and DICOM objects here.", metavar="DIR")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Read all with it (default: the active ones, by age and view).")
    ] = None,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Analyse files now, without any service: a table of findings, and overlays with --out."""
    from dataclasses import replace
    from functools import partial

    from rich.console import Console
    from rich.progress import Progress

    from worker.intake import gate_rules
    from worker.model_choice import Readers
    from worker.one_shot import analyse_isolated, reading_inputs
    from worker.pipeline import preprocessing_id

    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise typer.BadParameter(f"does not exist: {', '.join(missing)}")
    site = open_site(home, config)
    bundle, active = _chosen(site, model)
    reading = site.settings.reading
    opened = partial(Readers, reading, active, bundle.folder)
    rules = replace(gate_rules(site.settings), small_images="flag")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("analysing", total=None)
        results = list(
            analyse_isolated(
                paths,
                partial(reading_inputs, opened, rules, out, reduced_resolution=reading.reduced_resolution),
                reading.engine,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    if json:
        facts = {"name": bundle.name, "digest": bundle.digest, "preprocessing": preprocessing_id(bundle)}
        print_json({"model": facts, "results": results})
    else:
        _print_results(results, _used(results, bundle, active))
    if not results or any(result["status"] == "failed" for result in results):
        raise typer.Exit(1)


def worklist(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="At most so many studies.")] = 200,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """The triage list, in reading order."""
    from worker.facts import worklist_facts

    facts = worklist_facts(open_site(home, config).existing(), limit)
    if json:
        print_json(facts)
        return
    from rich.table import Table

    if facts["model"] is None:
        _console().print("[yellow]no model is active: studies are received and wait[/]")
    table = Table(box=None, padding=(0, 1), expand=True)
    for title in ("priority", "score", "waiting", "accession", "patient", "state"):
        table.add_column(title, overflow="fold")
    table.add_column("flags, then findings", overflow="fold", ratio=1, min_width=30)
    for item in facts["items"]:
        table.add_row(
            item["priority"],
            f"{item['score']:.2f}",
            _duration(item["waiting_seconds"]),
            marked(item["accession_number"]),
            marked(item["patient_id"]),
            item["state"].replace("_", " "),
            _says(item),
        )
    _console().print(table)
    _console().print(f"{len(facts['items'])} studies. AI results: not for diagnosis")


def status(home: Home = None, config: Config = None, json: Json = False) -> None:
    """Health: database, broker, store, model, and what waits. Exit code 1 when not ready."""
    from worker.facts import status_facts

    facts = status_facts(open_site(home, config).existing())
    if json:
        print_json(facts)
    else:
        for key, value in facts.items():
            if key == "models":  # the table, a line each
                for model in value if len(value) > 1 else ():
                    print(f"{'':<18} {visible(model['name'])} reads {model['reads']}")
                continue
            text = ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, dict) else value
            print(f"{key.replace('_', ' '):<18} {visible(str(text))}")
    if not facts["ready"]:
        raise typer.Exit(1)


def ledger(
    unfinished: Annotated[bool, typer.Option("--unfinished", help="List what has no result, and why.")] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", help="Only what came longer ago: 30s, 10m, 2h, 1d.")
    ] = "0s",
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """What arrived, what has a result, what was sent and committed, what has none and why."""
    from worker.facts import NO_MODEL, ledger_facts

    age = _parse_duration(older_than)
    facts = ledger_facts(open_site(home, config).existing(), age)
    if json:
        print_json(facts)
        return
    if facts["model"] is None:
        print(NO_MODEL)
    for key in ("received", "done", "not_applicable", "failed", "pending", "rejected"):
        print(f"{key.replace('_', ' '):<16} {facts[key]}")
    print("deliveries       " + ", ".join(f"{name} {number}" for name, number in facts["deliveries"].items()))
    if facts["commitments"]["asked"]:
        print("commitments      " + ", ".join(f"{name} {number}" for name, number in facts["commitments"].items()))
    if facts["refused_by_rule"]:
        rules = ", ".join(f"{rule} {number}" for rule, number in facts["refused_by_rule"].items())
        print(f"refused by rule  {visible(rules)}")
    for reason, number in facts["refusals"].items():
        print(f"  not read: {number} x {visible(reason)}")
    if unfinished:
        for entry in facts["unfinished"]:
            words = f"{entry['state']:<8} since {entry['since']}  {entry['sop_instance_uid']}  {entry['reason']}"
            print(f"  {visible(words)}")
        more = facts["unfinished_total"] - len(facts["unfinished"])
        if more > 0:
            print(f"  and {more} more: the oldest {len(facts['unfinished'])} are listed")


def _chosen(site: Site, name: str | None) -> tuple[Bundle, ActiveModels]:
    """The model that is named, or the default one, and the table by which files choose theirs (empty: all that one)."""
    from db.grounds import ActiveModels
    from model.bundle import BundleInvalid, load_bundle
    from worker.cli_model import active_table
    from worker.registry import UnknownModel, find_bundle, list_bundles

    if name is not None:
        return find_bundle(site.settings, name), ActiveModels()
    active = active_table(site)
    if active:
        return load_bundle(Path((active.default or active.models[0]).folder)), active
    for bundle in list_bundles(site.settings):
        if not isinstance(bundle, BundleInvalid):
            return bundle, ActiveModels()
    raise UnknownModel("no model is active and none is shipped: import one, or name a bundle's folder with --model")


def _used(results: list[dict[str, Any]], first: Bundle, active: ActiveModels) -> list[Bundle]:
    """The models that read the files; where none was read, the one that would have."""
    from model.bundle import load_bundle

    digests = {result["model"]["digest"] for result in results if result["model"]}
    folders = [
        Path(model.folder) for model in active.models if model.digest in digests and model.digest != first.digest
    ]
    others = [load_bundle(folder) for folder in folders]
    return [first, *others] if first.digest in digests or not others else others


def _print_results(results: list[dict[str, Any]], bundles: Sequence[Bundle]) -> None:
    from rich.table import Table

    names = ", ".join(f"{marked(bundle.name)} {bundle.digest[:12]}" for bundle in bundles)
    several = len(bundles) > 1
    table = Table(title=f"{'models' if several else 'model'} {names}", title_justify="left", padding=(0, 1))
    table.add_column("source", overflow="fold", ratio=2)
    table.add_column("flags and reasons", overflow="fold", ratio=3)
    table.add_column("findings (*: positive)", ratio=3)
    for result in results:
        status = [] if result["status"] == "done" else [result["status"].replace("_", " ") + ": " + result["reason"]]
        flags = [f"! {flag}" for flag in result["flags"]]
        by = [f"read by {result['model']['name']}"] if several and result["model"] else []
        findings = [f"{marked(finding['label'])} {finding['probability']:.3f}" for finding in result["findings"]]
        shown = [
            f"[bold]* {text}[/]" if finding["positive"] else f"  {text}"  # a pipe shows no bold
            for text, finding in zip(findings, result["findings"], strict=True)
        ]
        notes = "\n".join(marked(note) for note in (*status, *flags, *by))
        table.add_row(marked(Path(result["source"]).name), notes, "\n".join(shown))
        table.add_section()
    console = _console()
    console.print(table)
    for bundle in bundles:
        for calibration in bundle.calibrations:
            who = " ".join(part for part in (bundle.name if several else "", calibration.group) if part)
            thresholds = ", ".join(f"{name} {value:.3f}" for name, value in calibration.thresholds.items())
            console.print(f"thresholds{f' of {who}' if who else ''}: {thresholds}", markup=False)
    for result in results:
        for made in result["objects"]:
            line = visible(f"{made['kind']} of {made['label']}: {made['path']}")
            console.print(line, soft_wrap=True, markup=False)
    console.print("AI result: not for diagnosis")


def _says(item: dict[str, Any]) -> str:
    parts = [f"! {flag}" for flag in item["flags"]]
    if item["reason"]:
        parts.append(item["reason"])
    positive = [
        f"{finding['label']} {finding['probability']:.2f}" for finding in item["findings"] if finding["positive"]
    ]
    if item["findings"]:
        parts.append(", ".join(positive) or "no finding at or above its threshold")
    return "\n".join(marked(part) for part in parts)


def _console() -> Any:  # noqa: ANN401 - rich is imported late
    from rich.console import Console

    return Console()


def _duration(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _parse_duration(text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})\s*([smhd])", text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is not a duration; write 30s, 10m, 2h or 1d (six digits at most)", param_hint="--older-than"
        )
    return int(match[1]) * timedelta(seconds={"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])
