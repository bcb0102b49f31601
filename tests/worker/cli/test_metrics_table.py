"""The table of metrics keeps its numbers whole on a terminal of 80 columns, however long the labels are."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from worker.cli.metrics_table import metrics_table

CELL = {
    "positives": 123, "images": 4567, "ece": 0.305, "ece_by_chance": {"mean": 0.351},
    "auroc": 0.67, "auroc_interval": (0.12, 1.0), "average_precision": 0.72, "average_precision_interval": (0.2, 1.0),
    "sensitivity": 0.67, "sensitivity_interval": (0.0, 1.0), "specificity": 0.5, "specificity_interval": (0.25, 1.0),
}  # fmt: skip


def test_numbers_are_whole_at_80_columns_and_names_are_no_markup() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(
        metrics_table("title", {"Enlarged Cardiomediastinum of [bold] old people\n(hospital-of-the-city)": CELL})
    )
    shown = console.export_text()
    for text in (
        "of 4567",
        "0.12-1.00",
        "0.20-1.00",
        "0.00-1.00",
        "0.25-1.00",
        "(0.351)",
        "av. prec.",
        "(chance)",
        "[bold]",
    ):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 80
