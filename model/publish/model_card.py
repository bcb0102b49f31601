"""The model card of a trained bundle: intended use, data, metrics, training, limits, terms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.bundle.bundle import CARD_FILE, Bundle
from model.bundle.heatmap_scale import DEFAULT
from model.dataset.patient_digests import KEY_FILE
from model.evaluate.heatmap_scale_fit import QUIET, STRONGEST


def write_card(bundle: Bundle, curves: str | None = None, after_quality: Sequence[str] = ()) -> Path:
    """Write the bundle's card, Markdown, from its manifest and metrics alone; return its path.

    Parameters
    ----------
    bundle
        The bundle; the card is written into its folder.
    curves
        File name of the plotted training curves, beside the card; None: there is none.
    after_quality
        Further sections, Markdown, after the metrics.
    """
    provenance = bundle.description.get("provenance", {})
    sections = [
        _heading(bundle),
        _intended(bundle),
        _data(provenance, (bundle.folder / KEY_FILE).exists()),
        _quality(bundle),
        *after_quality,
        heatmap_section(bundle),
        _distribution(bundle.metrics.get("distribution", {})),
        _training(provenance, curves),
        _limits(provenance.get("weaknesses", [])),
        _terms(provenance.get("terms", [])),
    ]
    path = bundle.folder / CARD_FILE
    path.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    return path


def _heading(bundle: Bundle) -> str:
    network = bundle.description["provenance"].get("fitting", {}).get("network", "DenseNet121")
    return (
        f"# {bundle.name} {bundle.version}\n\n"
        f"**{bundle.description['provenance'].get('warning', bundle.statement)}**\n\n"
        f"{network} on {bundle.preprocessing.size} x {bundle.preprocessing.size} pixels "
        f"({bundle.preprocessing.identifier}), a logit each for {', '.join(bundle.label_names)}.\n"
        f"Model digest `{bundle.digest}`."
    )


def _intended(bundle: Bundle) -> str:
    known = bundle.description.get("provenance", {}).get("ages_known", True)
    ages = " and ".join(f"{low:g} to {high:g} years" for low, high in bundle.ages) or (
        "any age" if known else "unknown ages, so that none is flagged"
    )
    views = " and ".join(bundle.views) or "any view"
    return (
        "## Made for\n\n"
        f"Frontal chest radiographs ({views}), patients of {ages}. Anything else is flagged "
        "`outside training domain`, and so is an image whose pooled features lie far from those of the training images."
        + "".join(
            f"\n\n{label} is trained for {' and '.join(f'{low:g} to {high:g}' for low, high in ranges)} years only; "
            "at other ages it is flagged and never counted."
            for label, ranges in bundle.label_ages.items()
        )
    )


def _data(provenance: Mapping[str, Any], with_key: bool) -> str:
    counts: Sequence[Mapping[str, Any]] = provenance.get("data", [])
    if not counts:
        return ""
    rows = ["| part | domain | images | patients | positives |", "|---|---|---|---|---|"]
    for entry in counts:
        positives = ", ".join(f"{name} {count}" for name, count in entry["positives"].items())
        rows.append(f"| {entry['part']} | {entry['domain']} | {entry['images']} | {entry['patients']} | {positives} |")
    return (
        "## Trained on\n\n" + "\n".join(rows) + "\n\nParts share no patient and no byte-identical image (`split.csv`). "
        "A label that a domain does not know is left out of the loss there."
    )


def _quality(bundle: Bundle) -> str:
    test = bundle.metrics.get("test", {})
    if not test:
        return ""
    text = [
        "## Measured on the test part",
        f"With {test['engine']} in {test['precision']}; 95 % intervals from {test['resamples']} bootstrap resamples of "
        "patients. Thresholds, temperatures and biases come from the validation part alone. A probability means how "
        "often the finding was there in the validation part where the network answered so; where the finding is rarer "
        "than in these collections, it is too high. The calibration error (ECE) has 10 bins of equal width; beside it "
        "stands the error that perfect probabilities would show by chance on so many images, on average, and in how "
        "many of 100 draws they would show as much as was measured. Then the error by 10 bins of as many images each, "
        "and the root mean square error less what chance adds to it (Kumar et al. 2019).",
        _calibration(bundle),
    ]
    for domain, cells in test["domains"].items():
        rows = [
            "| label | positives of images | AUROC | average precision | threshold | sensitivity | specificity "
            "| Brier | ECE (by chance; as much) | equal bins | less chance |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for label, cell in cells.items():
            rows.append(
                f"| {label} | {cell['positives']} of {cell['images']} | {_interval(cell, 'auroc')} | "
                f"{_interval(cell, 'average_precision')} | {cell['threshold']:.3f} | "
                f"{_interval(cell, 'sensitivity')} | {_interval(cell, 'specificity')} | {cell['brier']:.3f} | "
                f"{_calibration_error(cell)} |"
            )
        text += [f"### {domain.capitalize()}", "\n".join(rows)]
    return "\n\n".join(text)


def _calibration(bundle: Bundle) -> str:
    if not bundle.groups:
        return "One calibration serves every patient."
    ranges = "; ".join(
        f"{group.group}, {' and '.join(f'{low:g} to {high:g} years' for low, high in group.ages)}"
        for group in bundle.groups
    )
    return (
        f"Calibrated apart: {ranges}. The patient's age chooses; where it is unknown or in no range, the domain whose "
        "training images the image lies nearest to. Which it was stands in each result."
    )


def _calibration_error(cell: Mapping[str, Any]) -> str:
    chance = cell["ece_by_chance"]
    if "as_much" not in chance:  # metrics of an earlier version
        return f"{cell['ece']:.3f} ({chance['mean']:.3f}) | |"
    often = f"{100 * chance['as_much']:.0f} of 100"
    return (
        f"{cell['ece']:.3f} ({chance['mean']:.3f}; {often}) | {cell['ece_equal_mass']:.3f} | "
        f"{cell['calibration_error_debiased']:.3f}"
    )


def _interval(cell: Mapping[str, Any], key: str) -> str:
    low, high = cell[f"{key}_interval"]
    return f"{cell[key]:.2f} ({low:.2f} to {high:.2f})"


def heatmap_section(bundle: Bundle) -> str:
    """Return the section, Markdown, of the colour scale of heatmaps."""
    meaning = (
        "## Heatmap scale\n\nColour and lines follow the local contribution to the calibrated logit, on one scale a "
        "label for every image."
    )
    rows = ["| label | drawn from | full colour at | negative images | positive images |", "|---|---|---|---|---|"]
    for label in bundle.label_names:
        scale, (negatives, positives) = bundle.heatmap.of(label), bundle.heatmap.images.get(label, (0, 0))
        counts = f"{negatives} | {positives}" if label in bundle.heatmap.labels else "not fitted | the default"
        rows.append(f"| {label} | {scale.floor:g} | {scale.full:g} | {counts} |")
    if not bundle.heatmap.labels:
        return (
            f"{meaning} It is {bundle.heatmap.origin('')}: from {DEFAULT.floor:g}, full at {DEFAULT.full:g}. Negative "
            "images may be coloured, or positive ones not."
        )
    return (
        f"{meaning} It was fitted on {bundle.heatmap.fitted_on}: drawn from the {QUIET}th percentile of the strongest "
        f"contribution in images that the model calls negative, full at the {STRONGEST}th percentile of those that it "
        "calls positive.\n\n" + "\n".join(rows)
    )


def _distribution(summaries: Mapping[str, Any]) -> str:
    if not summaries:
        return ""
    rows = ["| images | number | median score | largest | above 1.0 |", "|---|---|---|---|---|"]
    for name, cell in summaries.items():
        rows.append(
            f"| {name} | {cell['images']} | {cell['median']:.2f} | {cell['largest']:.2f} | "
            f"{100 * cell['outside']:.0f} % |"
        )
    return (
        "## Out of distribution\n\nThe score is a distance of pooled features; 1.0 is the 99th percentile of "
        "each domain's validation part.\n\n" + "\n".join(rows)
    )


def _training(provenance: Mapping[str, Any], curves: str | None) -> str:
    fitting: Mapping[str, Any] = provenance.get("fitting", {})
    rows = "\n".join(f"| {name} | {value} |" for name, value in fitting.items())
    command = provenance.get("command", "")
    picture = f"\n\n![loss and AUROC an epoch]({curves})" if curves else ""
    return (
        "## How it was made\n\n"
        + (f"```\n{command}\n```\n\n" if command else "")
        + f"| | |\n|---|---|\n{rows}\n\nEpoch by epoch: `history.csv`.{picture}"
    )


def _limits(weaknesses: Sequence[str]) -> str:
    return "## Weaknesses\n\n" + "\n".join(f"- {text}" for text in weaknesses) if weaknesses else ""


def _terms(terms: Sequence[str]) -> str:
    return "## Data: sources and terms\n\n" + "\n".join(f"- {text}" for text in terms) if terms else ""
