"""Sections of the demonstration bundle's model card alone: forms of calibration, and localisation of the maps."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from model.bundle.bundle import Bundle
from model.demonstration.calibration_comparison import FOLDS, REPEATS, TAKEN


def demonstration_sections(bundle: Bundle) -> list[str]:
    """Return the sections, Markdown, of the metrics that a training does not compute."""
    return [
        _calibration_forms(bundle.metrics.get("calibration_forms", {})),
        _pointing(bundle.metrics.get("pointing", {})),
    ]


def _calibration_forms(found: Mapping[str, Any]) -> str:
    """Return the section of `compare_forms`; empty where nothing was compared."""
    if not found:
        return ""
    forms = list(dict.fromkeys(form for entry in found.values() for form in entry["forms"]))
    rows = [f"| form | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    for form in forms:
        cells = [entry["forms"].get(form) for entry in found.values()]
        cells_text = [f"{cell['log_loss']:.4f} ({cell['ece']:.3f})" if cell else "the same" for cell in cells]
        rows.append(f"| {form}{', taken' if form == TAKEN else ''} | {' | '.join(cells_text)} |")
    least = {
        domain: min(entry["forms"], key=lambda form: float(entry["forms"][form]["log_loss"]))
        for domain, entry in found.items()
    }
    verdict = "; ".join(f"{domain}: {form}" for domain, form in least.items())
    return (
        "### Forms of calibration tried\n\nOn the validation part alone: log loss (and ECE) on patients that the form "
        f"was not fitted on, the mean of {REPEATS} divisions of the patients into {FOLDS}. The least log loss decides, "
        "for so few images tell no calibration error from chance. Least: " + verdict + ".\n\n" + "\n".join(rows)
    )


def _pointing(found: Mapping[str, Any]) -> str:
    """Return the section of `point_all`; empty where no image has a box."""
    if not found:
        return ""
    images = found["films"]
    parts = Counter(image["part"] for image in images)
    rows = [
        "| label | boxes | peak in the box | by chance | by the centre | IoU | by chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cell in {"all": found["all"], **found["labels"]}.items():
        low, high = cell["pointing_interval"]
        rows.append(
            f"| {name} | {cell['boxes']} | {cell['pointing']:.2f} ({low:.2f} to {high:.2f}) | "
            f"{cell['pointing_by_chance']:.2f} | {cell['pointing_of_the_centre']:.2f} | {cell['iou']:.2f} | "
            f"{cell['iou_by_chance']:.2f} |"
        )
    each = [
        "| image | part | label | in the table of labels | peak in the box | IoU |",
        "|---|---|---|---|---|---|",
        *(
            f"| {image['file']} | {image['part']} | {image['label']} | {'yes' if image['labelled'] else 'no'} | "
            f"{'yes' if image['hit'] else 'no'} | {image['iou']:.2f} |"
            for image in images
        ),
    ]
    listed = " and ".join(f"{count} in the {part} part" for part, count in parts.items())
    known = parts["training"] + parts["validation"]
    taught = sum(image["part"] == "training" and not image["labelled"] for image in images)
    return (
        f"## Where the maps point\n\nAgainst the {len(images)} boxes that readers drew for these labels: {listed}. "
        + ("So these figures are of images that were seen in training and tell nothing of new ones. " if known else "")
        + (
            f"For {taught} of the boxes the image's labels, mined from its report, say that the finding is absent, and "
            "so the network was taught. "
            if taught
            else ""
        )
        + "Pointing: the map's peak lies in the box; by chance: the box's share of the image; the centre: the image's "
        "centre lies in it. IoU: overlap of the box with the part of the map above half its peak; by chance: the same "
        "part shifted about.\n\n" + "\n".join(rows) + "\n\n" + "\n".join(each)
    )
