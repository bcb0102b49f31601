"""What training did, an epoch a row: as a table and as a picture."""

import csv
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch. Losses and AUROC are of fixed, unchanged images in reading mode, both parts alike.

    ``validation_by_cell`` is text: the AUROC of each domain and label on the validation part.
    """

    epoch: int
    size: int
    images: int
    seconds: float
    learning_rate: float
    running_loss: float
    training_loss: float
    validation_loss: float
    training_auroc: float
    validation_auroc: float
    validation_by_cell: str


def write_history(history: Sequence[EpochRecord], path: Path) -> None:
    """Write the epochs as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochRecord)], lineterminator="\n")
        writer.writeheader()
        for record in history:
            writer.writerow({name: _short(value) for name, value in asdict(record).items()})


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Draw loss and AUROC of the training and the validation part, PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [record.epoch for record in history]
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "auroc"), strict=True):
        for part, style in (("training", "o--"), ("validation", "o-")):
            axes.plot(epochs, [getattr(record, f"{part}_{quantity}") for record in history], style, label=part)
        axes.set_xlabel("epoch")
        axes.set_title({"loss": "Loss (weighted)", "auroc": "AUROC (mean over labels and domains)"}[quantity])
        axes.grid(alpha=0.3)
        axes.legend()
        for before, after in itertools.pairwise(history):
            if before.size != after.size:
                axes.axvline(after.epoch - 0.5, color="gray", linewidth=1)
                axes.annotate(f" {after.size} px", (after.epoch - 0.5, axes.get_ylim()[0]), color="gray")
    FigureCanvasAgg(figure).print_png(str(path))


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
