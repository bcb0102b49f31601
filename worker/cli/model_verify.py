"""`model verify` and `model quantize`: whether a bundle computes correctly here, and its faster int8 form."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from worker.cli.options import Config, Home, Json, Uncertain, print_json
from worker.installation import open_site
from worker.runtime.cores import usable_cores

if TYPE_CHECKING:
    from model.bundle.bundle import Bundle
    from model.engine.protocol import Engine

_Name = Annotated[str, typer.Argument(help="A model's name, the start of its digest, or a bundle's folder.")]


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module in the group ``model``."""
    group.command("verify")(verify)
    group.command("quantize")(quantize)


def verify(name: _Name, home: Home = None, config: Config = None, json: Json = False) -> None:
    """Recompute a bundle's digests and golden output, and compare all engines of this machine."""
    from model.engine.golden_check import check_against_golden
    from model.engine.opening import open_engine
    from worker.model_registry.bundle_facts import model_facts
    from worker.model_registry.bundles import find_bundle

    site = open_site(home, config)
    bundle = find_bundle(site.settings, name)
    reading = site.settings.reading
    engine = open_engine(bundle, reading.precision, threads=1, engine=reading.engine)
    logits, activations = check_against_golden(engine, bundle)
    facts = {**model_facts(bundle), "engine": engine.name, "precision": engine.precision}
    facts |= {"golden_logit_difference": logits, "golden_activation_difference": activations}
    facts["description_digest"] = "agrees" if bundle.has_manifest_checksum else "none"
    facts["engines"] = _engines(bundle, engine)
    if json:
        print_json(facts)
    else:
        print(f"{bundle.name} {bundle.digest[:12]}: digests agree")
        if not bundle.has_manifest_checksum:
            print("model.toml has no manifest checksum (format 1): 'cxr-triage model seal FOLDER' adds it")
        print(f"{engine.name} {engine.precision} reproduces the golden output")
        print(f"greatest difference: logits {logits:.2g}, activations {activations:.2g}")
        for found in facts["engines"]:
            print(f"{found['engine']} {found['precision']}: {found['says']}")
    # f32 is used if bf16 misses the golden output
    if any(found["agrees"] is False and found["precision"] != "bf16" for found in facts["engines"]):
        raise typer.Exit(1)


def quantize(
    name: _Name,
    data: Annotated[
        list[str], typer.Option("--data", help="Labelled images, as train takes them.", metavar="[DOMAIN=]FOLDER")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.", metavar="DIR")],
    uncertain: Uncertain = "ignore",
    limit: Annotated[int, typer.Option("--limit", min=40, help="Use at most so many images.")] = 1000,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Quantize a bundle to int8 if its quality holds on images of other patients that it was not trained on."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from model.dataset.sources import Source, limited, read_sources
    from model.quantize.images import choose_images
    from model.quantize.int8 import quantize as make_int8
    from worker.config.settings import ConfigurationError
    from worker.model_registry.bundles import find_bundle
    from worker.model_registry.training_images import read_facts, reading_as_the_worker

    if find_spec("nncf") is None:
        raise ConfigurationError("quantizing needs NNCF: pip install 'cxr-triage[train]'")
    if out.exists():
        raise typer.BadParameter(f"{out} already exists; choose another folder", param_hint="--out")
    settings = open_site(home, config).settings
    bundle = find_bundle(settings, name)
    read_image = reading_as_the_worker(bundle.preprocessing, reduced_resolution=settings.reading.reduced_resolution)
    samples = limited(read_sources([Source.parse(text, cast(Any, uncertain)) for text in data], read_facts), limit)
    images = choose_images(bundle, samples)
    steps = len(images.ranging) + 2 * len(images.judging)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("quantizing", total=steps)
        made, found = make_int8(
            bundle, samples, out, read_image, lambda: progress.advance(task), threads=usable_cores()
        )
    if json:
        print_json({"name": made.name, "digest": made.digest, "folder": str(made.folder), **found.as_table()})
        return
    gained = f"{found.speed:g} times as fast as {found.precision_before}"
    if found.speed <= 1.05:  # within the noise of the measurement
        gained = f"no faster than {found.precision_before}"
    if found.precision_before != "f32":
        gained += f", {found.speed_over_f32:g} times as f32"
    print(f"{made.folder}: {made.name} {made.digest[:12]}, {gained}")
    print(f"weights {found.size:g} times the size; evaluated on {found.judged_on} images:")
    for label, before in found.auroc_before.items():
        low, high = found.auroc_change[label]
        print(f"  {label}: AUROC {before:.4f} -> {found.auroc_after[label]:.4f}, change {low:+.4f} to {high:+.4f}")
    if found.not_judged:
        print(f"  too few images for an AUROC: {', '.join(found.not_judged)}")
    called, lost, added = found.all_calls
    print(f"of {called} positive calls {lost} were lost and {added} added")
    if not found.compared:
        print("whether the network was trained on these images is not known: the bundle has no split file")
    print(f"probabilities changed by {found.mean_move:.4f} on average, {found.high_move:.4f} at the 99th percentile")


def _engines(bundle: Bundle, reference: Engine) -> list[dict[str, Any]]:
    """Run the golden input through every available engine and precision, and compare with the golden output."""
    from model.engine.golden_check import check_against_golden
    from model.engine.opening import open_engine
    from model.engine.protocol import EngineName, EngineUnsuitable, Precision
    from model.network.keras_backend import is_any_installed

    wanted: list[tuple[EngineName, Precision]] = (
        [] if bundle.is_quantized else [("openvino", "f32"), ("openvino", "bf16")]
    )
    if is_any_installed():
        wanted.append(("keras", "f32"))
    found: list[dict[str, Any]] = []
    for name, precision in wanted:
        entry: dict[str, Any] = {"engine": name, "precision": precision, "agrees": None}
        try:
            engine = open_engine(bundle, precision, threads=1, check_golden=False, engine=name)
        except EngineUnsuitable as error:
            found.append({**entry, "says": f"not available: {error}"})
            continue
        if bundle.is_quantized:
            found.append(_compare_quantized(bundle, engine, reference, entry))
            continue
        try:
            logits, activations = check_against_golden(engine, bundle)
            other = abs(engine.run(bundle.golden.tensors).logits - reference.run(bundle.golden.tensors).logits).max()
            entry |= {"agrees": True, "logit_difference": float(logits), "activation_difference": float(activations)}
            says = f"agrees; logits within {float(other):.2g} of {reference.name} {reference.precision}"
        except EngineUnsuitable as error:
            entry["agrees"], says = False, str(error)
        found.append({**entry, "says": says})
    return found


def _compare_quantized(bundle: Bundle, whole: Engine, reference: Engine, entry: dict[str, Any]) -> dict[str, Any]:
    """Compare int8 with the weights it was made from; its golden output is its own."""
    from model.quantize.acceptance import HIGH_MOVE

    given = [bundle.everyone.probabilities(each.run(bundle.golden.tensors).logits) for each in (whole, reference)]
    move = float(abs(given[0] - given[1]).max())
    says = f"{reference.precision}'s probabilities lie within {move:.2g} of it (allowed {HIGH_MOVE:g})"
    return {**entry, "agrees": move <= HIGH_MOVE, "probability_difference": move, "says": says}
