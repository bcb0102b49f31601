"""The report of an evaluation: one HTML file without external resources, for screen and print."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from model.evaluate.evaluation import Evaluation
from model.evaluate.svg_plots import precision_recall_plot, reliability_plot, roc_plot


def report_html(evaluation: Evaluation, made: str) -> str:
    """Return the page.

    Parameters
    ----------
    evaluation
        The metrics and predictions.
    made
        Date and time, as printed.
    """
    report = evaluation.report
    pages = Environment(
        loader=PackageLoader("model.evaluate", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("report.html").render(
        **{key: value for key, value in report.items() if key not in ("all", "subgroups")},
        labels=report["all"],
        subgroups={name: cells for name, cells in report["subgroups"].items() if cells},
        tiles=_tiles(report),
        label_plots=list(_label_plots(evaluation)),
        worst=evaluation.worst,
        made=made,
    )


def _tiles(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    def mean(key: str) -> str:
        return f"{np.mean([cell[key] for cell in report['all'].values()]):.3f}" if report["all"] else "–"

    return [
        (f"{report['images']:,}", "images"),
        (f"{report['patients']:,}", "patients"),
        (f"{len(report['all'])}", "labels evaluated"),
        (mean("auroc"), "mean AUROC"),
        (mean("ece"), "mean ECE"),
    ]


def _label_plots(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for index, name in enumerate(evaluation.labels):
        cell = evaluation.report["all"].get(name)
        if cell is None:
            continue
        known = np.isfinite(evaluation.predictions.targets[:, index])
        targets = evaluation.predictions.targets[known, index]
        probabilities = evaluation.calibrated.probabilities[known, index]
        counts = cell["confusion"]
        positive = counts["true_positive"] + counts["false_positive"]
        precision = counts["true_positive"] / positive if positive else 0.0
        # Markup, not escaped: the SVG holds numbers and fixed texts alone
        yield {
            "name": name,
            "counts": counts,
            "roc": Markup(roc_plot(targets, probabilities, (1 - cell["specificity"], cell["sensitivity"]))),
            "precision_recall": Markup(precision_recall_plot(targets, probabilities, (cell["sensitivity"], precision))),
            "reliability": Markup(reliability_plot(targets, probabilities)),
        }
