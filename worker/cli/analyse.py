"""The command `analyse`: analyses files without any running service and prints their findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.options import Config, Home, Json, print_json
from worker.installation import Site, open_site
from worker.runtime.terminal_text import marked, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.model_registry.scope import ActiveModels
    from model.bundle.bundle import Bundle
from worker.cli.options import console


def add_commands(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="Read")(analyse)


def analyse(
    paths: Annotated[list[Path], typer.Argument(help="DICOM, PNG, JPEG, folder or DICOMDIR.", metavar="PATH...")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write overlays and DICOM objects here.", metavar="DIR")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Analyse every file with this model (default: the active models, by age and view)."
        ),
    ] = None,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Analyse files without any running service: prints findings, and writes overlays with --out."""
    from dataclasses import replace
    from functools import partial

    from rich.console import Console
    from rich.progress import Progress

    from worker.admission.rules import gate_rules
    from worker.analysis.model_selection import Readers
    from worker.analysis.one_shot import analyse_isolated, reading_inputs
    from worker.model_registry.preprocessing import preprocessing_id

    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise typer.BadParameter(f"does not exist: {', '.join(missing)}")
    site = open_site(home, config)
    bundle, active = _chosen(site, model)
    reading = site.settings.reading
    opened = partial(Readers, reading, active, bundle.folder)
    rules = replace(gate_rules(site.settings), small_images="flag")
    begin = partial(
        reading_inputs,
        opened,
        rules,
        out,
        clock=site.clock,
        zone=site.settings.dicom.zone,
        style=site.settings.heatmaps.style,
        reduced_resolution=reading.reduced_resolution,
    )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("analysing", total=None)
        results = list(
            analyse_isolated(
                paths,
                begin,
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


def _chosen(site: Site, name: str | None) -> tuple[Bundle, ActiveModels]:
    """The named or default model, and the active models among which age and view choose (empty: the one model)."""
    from db.model_registry.scope import ActiveModels
    from model.bundle.bundle import BundleInvalid, load_bundle
    from worker.model_registry.active_models import active_table
    from worker.model_registry.bundles import UnknownModel, find_bundle, list_bundles

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
    """The models that analysed the files; if no file was analysed, the default one."""
    from model.bundle.bundle import load_bundle

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
    rows: list[tuple[str, str, str]] = []
    for result in results:
        status = [] if result["status"] == "done" else [result["status"].replace("_", " ") + ": " + result["reason"]]
        flags = [f"! {flag}" for flag in result["flags"]]
        by = [f"model {result['model']['name']}"] if several and result["model"] else []
        findings = [f"{marked(finding['label'])} {finding['probability']:.3f}" for finding in result["findings"]]
        shown = [
            f"[bold]* {text}[/]" if finding["positive"] else f"  {text}"  # a pipe shows no bold
            for text, finding in zip(findings, result["findings"], strict=True)
        ]
        notes = "\n".join(marked(note) for note in (*status, *flags, *by))
        rows.append((marked(Path(result["source"]).name), notes, "\n".join(shown)))
    # a column that would be empty leaves its width to the others
    kept = [number for number in range(3) if number == 0 or any(row[number] for row in rows)]
    table.add_column("source", overflow="fold", max_width=24)
    if 1 in kept:
        table.add_column("flags and reasons", overflow="fold", ratio=1)
    if 2 in kept:
        table.add_column("findings (*: positive)", overflow="fold")
    for row in rows:
        table.add_row(*(row[number] for number in kept))
        table.add_section()
    output = console()
    output.print(table)
    for bundle in bundles:
        for calibration in bundle.calibrations:
            who = " ".join(part for part in (bundle.name if several else "", calibration.group) if part)
            thresholds = ", ".join(f"{name} {value:.3f}" for name, value in calibration.thresholds.items())
            output.print(f"thresholds{f' of {who}' if who else ''}: {thresholds}", markup=False)
    for result in results:
        for made in result["objects"]:
            line = visible(f"{made['kind']} of {made['label']}: {made['path']}")
            output.print(line, soft_wrap=True, markup=False)
    output.print("AI result: not for diagnosis")
