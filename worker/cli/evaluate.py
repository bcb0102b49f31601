"""`evaluate`: a model on labelled images, as a table, JSON and a report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from worker.cli.metrics_table import metrics_table
from worker.cli.options import Config, Home, Json, Uncertain, print_json
from worker.installation import open_site
from worker.runtime.cores import usable_cores


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command(rich_help_panel="Data scientist")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name, the start of its digest, or a bundle's folder.")],
    data: Annotated[
        list[str], typer.Argument(help="Labelled images, as train takes them: [DOMAIN=]FOLDER.", metavar="DATA...")
    ],
    split: Annotated[
        Path | None, typer.Option("--split", help="Evaluate on one part of this split file only.", metavar="FILE")
    ] = None,
    part: Annotated[
        str, typer.Option("--part", help="training, validation or test: of --split, or of data that come in parts.")
    ] = "test",
    uncertain: Uncertain = "ignore",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.html and report.json.", metavar="DIR")
    ] = None,
    allow_seen: Annotated[
        bool,
        typer.Option(
            "--allow-seen", help="Include images and patients of the model's own training; the report states it."
        ),
    ] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Measure a model on labelled images: AUROC, sensitivity, calibration, with intervals; a report with --out."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from model.dataset.sources import Source
    from model.engine.opening import open_engine
    from model.evaluate.evaluation import evaluate as evaluate_bundle
    from model.evaluate.evaluation import select_evaluation_set
    from worker.model_registry.bundles import find_bundle
    from worker.model_registry.training_images import read_facts, reading_as_the_worker

    if part not in ("training", "validation", "test"):
        raise typer.BadParameter(f"{part!r}; allowed are training, validation, test", param_hint="--part")
    site = open_site(home, config)
    settings = site.settings
    bundle = find_bundle(settings, model)
    sources = [Source.parse(text, cast(Any, uncertain)) for text in data]
    evaluation_set = select_evaluation_set(bundle, sources, split, part, allow_seen, read_facts)
    reading = settings.reading
    read_image = reading_as_the_worker(bundle.preprocessing, reduced_resolution=reading.reduced_resolution)
    engine = open_engine(bundle, reading.precision, threads=usable_cores(), engine=reading.engine)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading", total=len(evaluation_set.samples))
        found = evaluate_bundle(
            bundle, engine, evaluation_set, sources, read_image, lambda: progress.advance(task), worst=12 if out else 0
        )
    if out is not None:
        _write(out, found, site.clock())
    if json:
        print_json(found.report)
    else:
        _print(found.report, out)


def _write(out: Path, found: Any, moment: datetime) -> None:  # noqa: ANN401 - an Evaluation; model is imported late
    import json

    from model.evaluate.html_report import report_html

    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(found.report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.html").write_text(report_html(found, f"{moment:%d %B %Y, %H:%M} UTC"), encoding="utf-8")


def _print(facts: dict[str, Any], out: Path | None) -> None:
    from rich.console import Console

    console = Console()
    if facts["warning"]:
        console.print(f"! {facts['warning']}", style="bold yellow", markup=False)
    title = f"{facts['model']['name']}: {facts['images']} images of {facts['patients']} patients"
    console.print(metrics_table(title, facts["all"]))
    if facts["classes"]:
        found = facts["classes"]
        low, high = found["accuracy_interval"]
        console.print(
            f"the likeliest class is the true one in {found['accuracy']:.2f} ({low:.2f}-{high:.2f}) of "
            f"{found['images']} images"
        )
    if facts["pointing"]:
        cell = facts["pointing"]["all"]
        console.print(
            f"maps point into {cell['pointing']:.2f} of {cell['boxes']} boxes (by chance "
            f"{cell['pointing_by_chance']:.2f}, the centre {cell['pointing_of_the_centre']:.2f})"
        )
    if facts["compared_with_training"]:
        console.print(f"compared with the model's training: {facts['compared_with_training']}", markup=False)
    if facts["left_out"]:
        console.print(f"{len(facts['left_out'])} files left out, such as {facts['left_out'][0]['file']}", markup=False)
    if out is not None:
        console.print(f"{out / 'report.html'}", markup=False, soft_wrap=True)
