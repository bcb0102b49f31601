"""The report of an evaluation: one HTML file with everything in it, that opens from a disk and prints."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from model.evaluate.evaluation import Assessment
from model.evaluate.svg_plots import precision_recall_plot, reliability_plot, roc_plot

STYLE = """
:root{--ink:#1c2430;--quiet:#5d6b7a;--rule:#d9dfe6;--blue:#1f6fb2;--warn:#9a4b00;--card:#f6f8fa}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);margin:0 auto;max-width:1180px;
padding:28px 32px 60px;background:#fff}h1{font-size:27px;margin:0}h2{font-size:20px;margin:38px 0 10px;
border-bottom:1px solid var(--rule);padding-bottom:5px}h3{font-size:17px;margin:26px 0 8px}
.quiet,footer{color:var(--quiet)}code{font-size:13px}.warn{background:#fff4e5;border-left:4px solid var(--warn);
padding:10px 14px;margin:16px 0}.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.tile{background:var(--card);border-radius:8px;padding:10px 16px;min-width:120px}.tile b{display:block;font-size:22px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{text-align:left;font-weight:600;border-bottom:2px solid var(--rule);padding:5px 10px 5px 0;vertical-align:bottom}
td{border-bottom:1px solid var(--rule);padding:5px 10px 5px 0;vertical-align:top}td small{color:var(--quiet);
white-space:nowrap;display:block}.scroll{overflow-x:auto}.plots{display:grid;grid-template-columns:repeat(3,1fr) 190px;
gap:16px;align-items:start}svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--quiet)}
svg .title{font-size:13px;font-weight:600;fill:var(--ink)}.grid{stroke:#e8ecf0;fill:none}
.dash{stroke:#9aa7b4;stroke-dasharray:4 4;fill:none}.line{stroke:var(--blue);stroke-width:2;fill:none}
.dot{fill:var(--blue);fill-opacity:.35;stroke:var(--blue)}.mark{fill:#fff;stroke:#b3261e;stroke-width:2.5}
.matrix{font-size:13px;margin-top:20px}.matrix td,.matrix th{text-align:right;padding:6px 8px}
.films{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:16px}figure{margin:0;background:#101014;
border-radius:8px;overflow:hidden}figure img{width:100%;display:block;aspect-ratio:1;object-fit:contain}
figcaption{background:var(--card);padding:8px 10px;font-size:13px;overflow-wrap:anywhere}footer{margin-top:40px;
border-top:1px solid var(--rule);padding-top:10px;font-size:13px}
@media(max-width:800px){.plots{grid-template-columns:1fr 1fr}body{padding:16px}}
@media print{body{max-width:none;padding:0;font-size:11px}h2,h3{break-after:avoid}.plots,figure,tr{break-inside:avoid}
.films{grid-template-columns:repeat(4,1fr)}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

HEADINGS = (
    "label", "positives of images", "AUROC", "average precision", "threshold", "sensitivity", "specificity",
    "Brier", "ECE (by chance)",
)  # fmt: skip


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
    model = facts["model"]
    calibration = ", ".join(f"{count} {escape(how)}" for how, count in facts["calibration"].items())
    body = [
        f"<h1>{escape(model['name'])} {escape(model['version'])}</h1>",
        f'<p class="quiet">Evaluation of <code>{model["digest"][:12]}</code> with {escape(facts["engine"])} in '
        f"{escape(facts['precision'])}, {escape(made)}. Research software: not for diagnosis.</p>",
        f'<p class="warn"><b>Seen in training.</b> {escape(facts["warning"])}</p>' if facts["warning"] else "",
        f'<p class="quiet">Compared with the training of the network: {escape(facts["compared_with_training"])}.</p>'
        if facts["compared_with_training"]
        else "",
        _tiles(facts),
        "<h2>Every label</h2>",
        _table(facts["all"]),
        f'<p class="quiet">Beneath each figure: {escape(facts["method"]["intervals"])}. '
        f"ECE: {escape(facts['method']['ece'])}. Images by calibration: {calibration}.</p>",
        _classes(facts["classes"]),
        *(_label(assessment, index, name) for index, name in enumerate(assessment.labels) if name in facts["all"]),
        _subgroups(facts["subgroups"]),
        _pointing(facts["pointing"]),
        _films(assessment),
        _left_out(facts["left_out"]),
        "<footer>The red ring is the threshold in use. No patient is named here beyond what file names say.</footer>",
    ]
    title = f"{model['name']}: evaluation"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style></head><body>'
        + "\n".join(part for part in body if part)
        + "</body></html>\n"
    )


def _tiles(facts: Mapping[str, Any]) -> str:
    cells = facts["all"].values()
    tiles = [
        (f"{facts['images']:,}", "images"),
        (f"{facts['patients']:,}", "patients"),
        (f"{len(facts['all'])}", "labels measured"),
        (f"{np.mean([cell['auroc'] for cell in cells]):.3f}" if facts["all"] else "–", "mean AUROC"),
        (f"{np.mean([cell['ece'] for cell in cells]):.3f}" if facts["all"] else "–", "mean ECE"),
    ]
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{n}</b>{what}</div>' for n, what in tiles) + "</div>"


def _table(cells: Mapping[str, Mapping[str, Any]], first: str = "") -> str:
    if not cells:
        return '<p class="quiet">No label of the model is known to be present in some images and absent in others.</p>'
    rows = "".join(f"<tr><td>{escape(first)}{escape(name)}</td>{_cells(cell)}</tr>" for name, cell in cells.items())
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cells(cell: Mapping[str, Any]) -> str:
    def with_interval(key: str) -> str:
        low, high = cell[f"{key}_interval"]
        return f"{cell[key]:.3f}<small>{low:.3f} to {high:.3f}</small>"

    thresholds = " / ".join(f"{value:.3f}" for value in cell.get("thresholds", [cell["threshold"]]))
    values = [
        f"{cell['positives']} of {cell['images']}<small>{cell['patients']} patients</small>",
        with_interval("auroc"),
        with_interval("average_precision"),
        thresholds,
        with_interval("sensitivity"),
        with_interval("specificity"),
        with_interval("brier"),
        f"{cell['ece']:.3f}<small>{cell['ece_by_chance']['mean']:.3f}, 95th percentile "
        f"{cell['ece_by_chance']['95th percentile']:.3f}</small>",
    ]
    return "".join(f"<td>{value}</td>" for value in values)


def _classes(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    names = found["names"]
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{count}</td>' for count in row)}</tr>"
        for name, row in zip(names, found["confusion"], strict=True)
    )
    low, high = found["accuracy_interval"]
    return (
        f"<h2>Classes</h2><p>The likeliest class is the true one in {found['accuracy']:.3f} of {found['images']} "
        f"images ({low:.3f} to {high:.3f}); averaged over the classes {found['balanced_accuracy']:.3f}. "
        '<span class="quiet">A row is a true class, a column the class that was said, by the softmax before '
        "calibration.</span></p>"
        f'<table class="matrix"><tr><th></th>{"".join(f"<th>{escape(name)}</th>" for name in names)}</tr>{rows}</table>'
    )


def _label(assessment: Assessment, index: int, name: str) -> str:
    known = np.isfinite(assessment.measured.targets[:, index])
    targets = assessment.measured.targets[known, index]
    given = assessment.judged.probabilities[known, index]
    cell = assessment.facts["all"][name]
    counts = cell["confusion"]
    called = counts["true_positive"] + counts["false_positive"]
    precision = counts["true_positive"] / called if called else 0.0
    matrix = (
        '<table class="matrix"><tr><th></th><th>called</th><th>not</th></tr>'
        f"<tr><th>present</th><td>{counts['true_positive']}</td><td>{counts['false_negative']}</td></tr>"
        f"<tr><th>absent</th><td>{counts['false_positive']}</td><td>{counts['true_negative']}</td></tr></table>"
    )
    return (
        f'<h3>{escape(name)}</h3><div class="plots">'
        + roc_plot(targets, given, (1 - cell["specificity"], cell["sensitivity"]))
        + precision_recall_plot(targets, given, (cell["sensitivity"], precision))
        + reliability_plot(targets, given)
        + f"<div>{matrix}</div></div>"
    )


def _subgroups(subgroups: Mapping[str, Mapping[str, Any]]) -> str:
    tables = "".join(f"<h3>{escape(kind)}</h3>{_table(cells)}" for kind, cells in subgroups.items() if cells)
    return f"<h2>Kinds of patients and collections</h2>{tables}" if tables else ""


def _pointing(found: Mapping[str, Mapping[str, Any]]) -> str:
    if not found:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{cell['boxes']}</td><td>{cell['pointing']:.2f}"
        f"<small>{cell['pointing_interval'][0]:.2f} to {cell['pointing_interval'][1]:.2f}</small></td>"
        f"<td>{cell['pointing_by_chance']:.2f}</td><td>{cell['pointing_of_the_centre']:.2f}</td>"
        f"<td>{cell['iou']:.2f}</td><td>{cell['iou_by_chance']:.2f}</td></tr>"
        for name, cell in found.items()
    )
    return (
        "<h2>Where the maps point</h2><p class='quiet'>Against boxes that readers drew. Pointing: the map's peak lies "
        "in the box; by chance: the box's share of the image; centre: the image's centre lies in it. IoU: overlap with "
        "the part above half the peak; by chance: the same part shifted about.</p><table><thead><tr><th>label</th>"
        "<th>boxes</th><th>pointing</th><th>by chance</th><th>centre</th><th>IoU</th><th>by chance</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _films(assessment: Assessment) -> str:
    if not assessment.worst:
        return ""
    films = "".join(
        f'<figure><img src="{film["picture"]}" alt="overlay of {escape(film["label"])}"><figcaption><b>'
        f"{escape(film['label'])}</b>: {'present' if film['truth'] else 'absent'}, said {film['probability']:.2f} "
        f"(threshold {film['threshold']:.2f})<br>{escape(film['file'])}</figcaption></figure>"
        for film in assessment.worst
    )
    total = len(assessment.facts["misread"])
    return (
        f"<h2>Misread, the worst first</h2><p class='quiet'>{len(assessment.worst)} of "
        f"{total}{' or more' if total == 200 else ''}; colour: what spoke for the label. All are in the JSON.</p>"
        f'<div class="films">{films}</div>'
    )


def _left_out(left_out: list[Mapping[str, str]]) -> str:
    if not left_out:
        return ""
    rows = "".join(f"<li>{escape(entry['file'])}: {escape(entry['reason'])}</li>" for entry in left_out[:50])
    return f"<h2>Left out</h2><p>{len(left_out)} files.</p><ul>{rows}</ul>"
