"""`train`: trains a network on images and writes a bundle with curves and a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.metrics_table import metrics_table
from worker.cli.model import parse_scope
from worker.cli.options import Config, Home, Json, Uncertain, print_json
from worker.installation import open_site
from worker.model_registry.training_images import read_facts, reading_as_the_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from model.bundle.bundle import Bundle

    Image = NDArray[np.float32]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command(rich_help_panel="Data scientist")(train)


def train(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Folder with a folder of images a class, also within train, val and test, or with a CSV of labels "
            "beside the images; DOMAIN=FOLDER keeps collections apart.",
            metavar="DATA...",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.", metavar="DIR")],
    name: Annotated[str, typer.Option("--name", help="The model's name (default: the folder's).")] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Train on this label only; may be repeated.", metavar="LABEL")
    ] = None,
    minimum_positives: Annotated[
        int,
        typer.Option(
            "--minimum-positives", min=1, help="Without --label: leave out labels with fewer positive images."
        ),
    ] = 20,
    view: Annotated[
        list[str] | None,
        typer.Option("--view", help="Use only images of this view or of unknown view; may be repeated.", metavar="PA"),
    ] = None,
    ages: Annotated[
        str | None,
        typer.Option(
            "--ages", help="Ages that the model is for, 0-17 or 0-1,12-17 (default: those of the training images)."
        ),
    ] = None,
    uncertain: Uncertain = "ignore",
    split: Annotated[
        Path | None, typer.Option("--split", help="Split the images as in this file.", metavar="CSV")
    ] = None,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Split by patient though the data come in parts (train, val, test).")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option("--start", help="Begin with a bundle's weights, or an ImageNet file without top (.h5)."),
    ] = None,
    architecture: Annotated[
        str, typer.Option("--architecture", help="densenet121, densenet169, densenet201, or tiny (to try things out).")
    ] = "densenet121",
    head_epochs: Annotated[
        int,
        typer.Option("--head-epochs", min=0, help="Number of epochs that train the head alone, with the base frozen."),
    ] = 0,
    train_from: Annotated[
        str, typer.Option("--train-from", help="Layers that are trained after the head's epochs: all, head, conv4, ...")
    ] = "all",
    fine_tuning: Annotated[
        float, typer.Option("--fine-tuning", help="Factor on the learning rate after the head's epochs.")
    ] = 0.1,
    softmax: Annotated[bool, typer.Option("--softmax", help="The labels (and normal) exclude one another.")] = False,
    focal: Annotated[float, typer.Option("--focal", min=0.0, help="Gamma of the focal loss; 0: cross-entropy.")] = 0.0,
    class_weights: Annotated[
        bool, typer.Option("--class-weights/--no-class-weights", help="Weight rare and frequent values equally.")
    ] = True,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 12,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use at most this many images.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Plan the schedule to end within this time.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=2)] = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-3,
    schedule: Annotated[
        str, typer.Option("--schedule", help="Learning rate schedule: cosine, constant or plateau.")
    ] = "cosine",
    patience: Annotated[
        int | None,
        typer.Option("--patience", min=1, help="Stop after this many epochs without a better validation result."),
    ] = None,
    average: Annotated[
        float,
        typer.Option(
            "--average", min=0.0, max=0.9999, help="Decay of the moving average of the weights per step; 0: no average."
        ),
    ] = 0.0,
    precision: Annotated[
        str, typer.Option("--precision", help="float32, mixed_bfloat16 or mixed_float16.")
    ] = "float32",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of TensorFlow or PyTorch; JAX uses every core.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 2026,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Train a network on images: 70/15/15 split by patient, augmentation, curves, card. Needs the extra "train".

    TensorFlow computes; with KERAS_BACKEND=torch or jax in the environment, PyTorch or JAX.

    If it is killed, the same command continues from the last checkpoint. Damaged and duplicate files are listed in
    problems.csv in the new bundle's folder.
    """
    from typing import cast

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    _check_installed()
    reduced_resolution = open_site(home, config).settings.reading.reduced_resolution
    if (out / "model.toml").exists() and not (out / "training").exists():
        raise typer.BadParameter(f"{out} already holds a bundle; choose another folder", param_hint="--out")
    from model.bundle.labels import name_problem
    from model.dataset.image_inspection import PROBLEMS_FILE, summary
    from model.dataset.samples import FileProblem, Source
    from model.train.fitting import TrainingProgress
    from model.train.initial_weights import starting_preprocessing
    from model.train.plan import TrainingPlan
    from model.train.training import train as fit

    if problem := name_problem(name or out.absolute().name, of_file=True):  # checked now, not after hours of training
        raise typer.BadParameter(f"the name {problem}", param_hint="--name")
    try:
        sources = tuple(Source.parse(source, cast(Any, uncertain)) for source in data)
        plan = TrainingPlan(
            sources=sources,
            output=out,
            name=name or out.absolute().name,
            labels=tuple(label or ()),
            minimum_positives=minimum_positives,
            views=tuple(each.upper() for each in view or ()),
            ages=tuple(scope.ages) if (scope := parse_scope(ages, None)) else (),
            limit=limit,
            seed=seed,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            minutes=minutes,
            split_file=split,
            resplit=resplit,
            start=start,
            architecture=cast(Any, architecture),
            head_epochs=head_epochs,
            trained=train_from,
            fine_tuning=fine_tuning,
            exclusive_classes=softmax,
            focus=focal,
            weighted=class_weights,
            schedule=cast(Any, schedule),
            patience=patience,
            averaging=average,
            precision=cast(Any, precision),
            threads=threads,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, int] = {}

        def on_progress(step: TrainingProgress) -> None:
            if step.phase not in tasks:
                tasks[step.phase] = progress.add_task(step.phase, total=step.total)
            said = step.phase
            if step.last_epoch is not None:
                said += f" (epoch {step.last_epoch.epoch}: AUROC {step.last_epoch.validation_auroc:.3f})"
            progress.update(tasks[step.phase], completed=step.done, total=step.total, description=said)  # type: ignore[arg-type]

        def on_notice(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        def on_problems(problems: Sequence[FileProblem]) -> None:
            if problems:
                on_notice(f"{summary(problems)}: {out / PROBLEMS_FILE}")

        read = reading_as_the_worker(
            starting_preprocessing(plan.start, plan.preprocessing), reduced_resolution=reduced_resolution
        )
        bundle = fit(plan, read, on_progress, read_facts, on_problems, on_notice)
    if json:
        print_json(
            {"name": bundle.name, "digest": bundle.digest, "folder": str(bundle.folder), "metrics": bundle.metrics}
        )
    else:
        _print(bundle)


def _print(bundle: Bundle) -> None:
    """Print how good the network is on the test part, where its files are, and what to do with it next."""
    import shlex

    from rich.console import Console

    console = Console()
    test: dict[str, Any] = bundle.metrics["test"]
    domains: dict[str, dict[str, Any]] = test["domains"]
    cells = {
        f"{label}\n({domain})" if len(domains) > 1 else label: cell
        for domain, of_domain in domains.items()
        for label, cell in of_domain.items()
    }
    title = f"{bundle.name} {bundle.digest[:12]} on the test part, {test['images']} images, 95 % intervals by patient"
    console.print(metrics_table(title, cells))

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if missing := [label for label in bundle.label_names if not any(label in cell for cell in domains.values())]:
        say(f"not measured: {', '.join(missing)}, of which the test part has no images both with and without")
    ages = " and ".join(f"{low:g}-{high:g}" for low, high in bundle.ages)
    say(f"for ages: {ages or 'unknown'}; for views: {', '.join(bundle.views) or 'unknown'}")
    files = {"card": bundle.card_path.name, "curves": "curves.png", "epochs": "history.csv", "split": "split.csv"}
    say(f"{bundle.folder}: " + ", ".join(f"{what} {name}" for what, name in files.items()))
    folder = shlex.quote(str(bundle.folder))
    say(f"next: cxr-triage model activate {folder}, or cxr-triage evaluate {folder} DATA on images from elsewhere")


def _check_installed() -> None:
    """Report missing packages before images are read, not after hours of training."""
    from importlib.util import find_spec

    from model.network.keras_backend import BackendUnavailable, chosen_backend
    from worker.config.settings import ConfigurationError

    try:
        chosen_backend("training")
    except BackendUnavailable as error:
        raise ConfigurationError(str(error)) from error
    if lacking := [name for name in ("matplotlib", "scipy") if find_spec(name) is None]:
        raise ConfigurationError(f"training needs {' and '.join(lacking)}: pip install 'cxr-triage[train]'")
