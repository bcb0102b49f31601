"""The report of an evaluation: one HTML file with everything in it, that opens from a disk and prints."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from model.evaluate.evaluation import Assessment
from model.evaluate.svg_plots import precision_recall_plot, reliability_plot, roc_plot


def report_html(assessment: Assessment, made: str) -> str:
    """Return the page.

    Parameters
    ----------
    assessment
        What was measured.
    made
        When, as a person reads it.
    """
    facts = assessment.facts
    pages = Environment(
        loader=PackageLoader("model.evaluate", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("report.html").render(
        **{key: value for key, value in facts.items() if key not in ("all", "subgroups")},
        labels=facts["all"],
        subgroups={kind: cells for kind, cells in facts["subgroups"].items() if cells},
        tiles=_tiles(facts),
        label_plots=list(_label_plots(assessment)),
        worst=assessment.worst,
        made=made,
    )


def _tiles(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    def mean(key: str) -> str:
        return f"{np.mean([cell[key] for cell in facts['all'].values()]):.3f}" if facts["all"] else "–"

    return [
        (f"{facts['images']:,}", "images"),
        (f"{facts['patients']:,}", "patients"),
        (f"{len(facts['all'])}", "labels measured"),
        (mean("auroc"), "mean AUROC"),
        (mean("ece"), "mean ECE"),
    ]


def _label_plots(assessment: Assessment) -> Iterator[dict[str, Any]]:
    for index, name in enumerate(assessment.labels):
        cell = assessment.facts["all"].get(name)
        if cell is None:
            continue
        known = np.isfinite(assessment.measured.targets[:, index])
        targets = assessment.measured.targets[known, index]
        given = assessment.judged.probabilities[known, index]
        counts = cell["confusion"]
        called = counts["true_positive"] + counts["false_positive"]
        precision = counts["true_positive"] / called if called else 0.0
        # Markup: SVG of our own numbers; no text from outside is in it
        yield {
            "name": name,
            "counts": counts,
            "roc": Markup(roc_plot(targets, given, (1 - cell["specificity"], cell["sensitivity"]))),
            "precision_recall": Markup(precision_recall_plot(targets, given, (cell["sensitivity"], precision))),
            "reliability": Markup(reliability_plot(targets, given)),
        }
