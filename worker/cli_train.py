"""`train`: images to a bundle that can be activated, with progress, curves and a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli_options import Json, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command(rich_help_panel="Data scientist")(train)


def train(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Folder with a folder of images a class, or with a ChestX-ray14-style CSV beside the images; "
            "DOMAIN=FOLDER keeps collections apart.",
            metavar="DATA...",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.", metavar="DIR")],
    name: Annotated[str, typer.Option("--name", help="The model's name (default: the folder's).")] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Train on this label only; may be repeated.", metavar="LABEL")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 12,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many images.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Plan the schedule to end within this time.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1)] = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-3,
    seed: Annotated[int, typer.Option("--seed")] = 2026,
    json: Json = False,
) -> None:
    """Train DenseNet121 on images: 70/15/15 split by patient, augmentation, curves, card. Needs the extra "train"."""
    from importlib.util import find_spec

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from worker.settings import ConfigurationError

    if find_spec("tensorflow") is None:
        raise ConfigurationError("training needs TensorFlow: pip install 'cxr-triage[train]'")
    if (out / "model.toml").exists():
        raise typer.BadParameter(f"{out} already holds a bundle; choose another folder", param_hint="--out")
    from model.dataset import Source
    from model.fitting import TrainingProgress
    from model.training import TrainingPlan
    from model.training import train as fit

    plan = TrainingPlan(
        sources=tuple(Source.parse(source) for source in data),
        output=out,
        name=name or out.absolute().name,
        labels=tuple(label or ()),
        limit=limit,
        seed=seed,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        minutes=minutes,
    )
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, int] = {}

        def on_progress(step: TrainingProgress) -> None:
            if step.phase not in tasks:
                tasks[step.phase] = progress.add_task(step.phase, total=step.total)
            progress.update(tasks[step.phase], completed=step.done, total=step.total)  # type: ignore[arg-type]

        bundle = fit(plan, read_image, on_progress)
    if json:
        print_json(
            {"name": bundle.name, "digest": bundle.digest, "folder": str(bundle.folder), "metrics": bundle.metrics}
        )
    else:
        print(f"{bundle.folder}: {bundle.name} {bundle.digest[:12]}; its card is {bundle.card_path}")


def read_image(path: Path) -> NDArray[np.float32]:
    """Read one training image, DICOM or picture, through the functions the worker uses.

    Raises
    ------
    model.raster.UnreadableImage
        With a reason; the training lists such files and goes on.
    """
    from dicom_io.facts import UnreadableDicom
    from dicom_io.grayscale import PixelsUnreadable, read_grayscale
    from dicom_io.sources import kind_of
    from model.raster import UnreadableImage, read_raster

    if kind_of(path) != "dicom":
        return read_raster(path)
    try:
        return read_grayscale(path).image
    except (PixelsUnreadable, UnreadableDicom) as error:
        raise UnreadableImage(f"{path}: {error}") from error
