"""The table of a model's metrics on labelled images, as `train` and `evaluate` print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table


def metrics_table(title: str, cells: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table with a row for each of `model.evaluate.metrics_with_intervals.label_metrics`, by its name.

    AUROC, average precision, sensitivity and specificity stand above their 95 % intervals, the calibration error (ECE)
    above the one that perfect probabilities would show by chance.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, title=Text(title), title_justify="left"
    )
    table.add_column("label", overflow="fold")  # long names give way, numbers do not
    for heading in ("positive", "AUROC", "av. prec.", "sens.", "spec.", "ECE\n(chance)"):
        table.add_column(heading, no_wrap=True)
    for name, cell in cells.items():
        table.add_row(
            Text(name),
            f"{cell['positives']}\nof {cell['images']}",
            *(_interval(cell, key) for key in ("auroc", "average_precision", "sensitivity", "specificity")),
            f"{cell['ece']:.3f}\n({cell['ece_by_chance']['mean']:.3f})",
        )
    return table


def _interval(cell: Mapping[str, Any], key: str) -> str:
    low, high = cell[f"{key}_interval"]
    return f"{cell[key]:.2f}\n{low:.2f}-{high:.2f}"
