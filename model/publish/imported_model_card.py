"""The model card of an imported network."""

from pathlib import Path

from model.bundle.bundle import Bundle
from model.publish.model_card import heatmap_section


def write_import_card(bundle: Bundle) -> Path:
    """Write the model card of an imported bundle, Markdown, from its manifest; return its path."""
    provenance, spec = bundle.description["provenance"], bundle.preprocessing
    source = provenance["source"]
    ages = " and ".join(f"{low:g} to {high:g} years" for low, high in bundle.ages) or "not said, so none is flagged"
    views = " and ".join(bundle.views) or "not said, so none is flagged"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    rows = "\n".join(f"| {label} | {threshold:g} |" for label, threshold in bundle.thresholds.items())
    command = f"\n\n```\n{provenance['command']}\n```" if provenance["command"] else ""
    parts = [
        f"# {bundle.name} {bundle.version}",
        f"**{bundle.statement}**",
        f"Made elsewhere and imported. Nothing was measured of it here: `cxr-triage evaluate {bundle.name} DATA` does."
        f"\nModel digest `{bundle.digest}`.",
        "## Where it comes from",
        f"`{source['file']}`, {source['kind']}, SHA-256 `{source['sha256']}`: network `{provenance['architecture']}`, "
        f"{provenance['weights']:,} weights, {provenance['answer']} over {len(provenance['classes'])} outputs."
        f"{command}",
        "## How it reads",
        f"- An image becomes {spec.size} x {spec.size} x {spec.channels} values (`{spec.identifier}`): geometry "
        f"{spec.geometry}, interpolation {spec.interpolation}, then (image in 0..1 - {mean}) / {std}.\n"
        f"- Ages: {ages}. Views: {views}.\n"
        f"- Heatmaps are of layer `{bundle.explanation_layer}`, "
        + ("in closed form." if bundle.head is not None else "by gradients, on the keras engine."),
        f"| label | threshold |\n|---|---|\n{rows}",
        heatmap_section(bundle),
        "## What to know",
        "\n".join(f"- {note}" for note in provenance["notes"])
        + ("" if bundle.distribution.known else "\n- Images out of its training distribution are not noticed: none "
           "came with it. `model import --reference FOLDER` learns what they look like."),
    ]  # fmt: skip
    bundle.card_path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return bundle.card_path
