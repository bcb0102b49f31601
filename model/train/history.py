"""The history of a training: metrics of each epoch as a CSV table, and as plotted curves."""

import csv
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class EpochRecord:
    """Metrics of one epoch, by `model.train.epoch_metrics.Monitor`: both parts in inference mode, without augmentation.

    Attributes
    ----------
    epoch, size, images, seconds
        Number of the epoch, rows and columns of its images, images trained on, duration.
    learning_rate
        Of its last step.
    running_loss
        Mean loss of its training steps, with augmentation and dropout.
    training_loss, validation_loss, training_auroc, validation_auroc
        Means over labels and domains.
    validation_by_cell
        Text: the AUROC of each domain and label on the validation part.
    training_accuracy, validation_accuracy
        Of a logit above 0, or of the largest score of exclusive classes.
    trained
        Layers that were trained, see `Stage`.
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
    training_accuracy: float = math.nan
    validation_accuracy: float = math.nan
    trained: str = "all"

    @property
    def score(self) -> float:
        """Score by which the best epoch is selected: validation AUROC, or minus the validation loss where it is nan."""
        return self.validation_auroc if math.isfinite(self.validation_auroc) else -self.validation_loss


def write_history(history: Sequence[EpochRecord], path: Path) -> None:
    """Write the epochs as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochRecord)], lineterminator="\n")
        writer.writeheader()
        for record in history:
            writer.writerow({name: _short(value) for name, value in asdict(record).items()})


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Draw loss, AUROC and accuracy of the training and the validation part, and the learning rate, PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    epochs = [record.epoch for record in history]
    titles = {
        "loss": "Loss (weighted)",
        "auroc": "AUROC (mean over labels and domains)",
        "accuracy": "Accuracy (mean over labels and domains)",
    }
    *panels, rates = figure.subplots(2, 2).flat
    for axes, (quantity, title) in zip(panels, titles.items(), strict=True):
        for part, style in (("training", "o--"), ("validation", "o-")):
            values = [getattr(record, f"{part}_{quantity}") for record in history]
            axes.plot(epochs, values, style, markersize=4, label=part)
        axes.set_title(title)
        axes.legend()
    rates.plot(epochs, [record.learning_rate for record in history], "o-", color="black", markersize=4)
    rates.set_yscale("log")
    rates.set_title("Learning rate (at the end of the epoch)")
    for axes in (*panels, rates):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, max(epochs, default=1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        for before, after in itertools.pairwise(history):
            if (before.size, before.trained) != (after.size, after.trained):
                axes.axvline(after.epoch - 0.5, color="gray", linewidth=1)
                text = f" {after.size} px" if before.size != after.size else f" {after.trained}"
                axes.annotate(text, (after.epoch - 0.5, 0.02), xycoords=("data", "axes fraction"), color="gray")
    FigureCanvasAgg(figure).print_png(str(path))


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
