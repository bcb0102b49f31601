"""Commands of the data scientist: the registry of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli_options import Config, Home, Json, print_json
from worker.site import Site, open_site

if TYPE_CHECKING:
    from model.bundle import Bundle

_Name = Annotated[str, typer.Argument(help="A model's name, the start of its digest, or a bundle's folder.")]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="The registry of models.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("show")(show)
    group.command("activate")(activate)
    group.command("deactivate")(deactivate)
    group.command("verify")(verify)
    app.add_typer(group, name="model", rich_help_panel="Data scientist")


def list_models(home: Home = None, config: Config = None, json: Json = False) -> None:
    """The models there are, and which one is active."""
    from model.bundle import BundleInvalid
    from worker.registry import list_bundles

    site = open_site(home, config)
    active = _active_digest(site)
    models: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []
    for found in list_bundles(site.settings):
        if isinstance(found, BundleInvalid):
            broken.append({"folder": str(found.folder), "reason": str(found)})
        else:
            models.append({**_facts(found), "active": found.digest == active})
    if json:
        print_json({"models": models, "broken": broken})
        return
    for facts in models:
        mark = "active" if facts["active"] else ""
        print(f"{facts['name']:<24} {facts['digest'][:12]}  {mark:<6}  {', '.join(facts['labels'])}")
    for entry in broken:
        print(f"unusable: {entry['reason']}")
    if not models:
        print("no models")


def show(name: _Name, home: Home = None, config: Config = None, json: Json = False) -> None:
    """A model's card: what it was trained on, what it is good at, and what it is not."""
    from worker.registry import find_bundle

    bundle = find_bundle(open_site(home, config).settings, name)
    if json:
        print_json({**_facts(bundle), "metrics": bundle.metrics, "card": bundle.card_path.read_text(encoding="utf-8")})
    else:
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(bundle.card_path.read_text(encoding="utf-8")))


def activate(name: _Name, home: Home = None, config: Config = None) -> None:
    """Read new studies with this model. It is checked whole first; a broken one leaves the active one active."""
    from worker.registry import activate as make_active

    site = open_site(home, config)
    bundle = make_active(site.settings, site.database, name)
    print(f"active: {bundle.name} {bundle.digest[:12]}; running workers use it from the next study on")


def deactivate(home: Home = None, config: Config = None) -> None:
    """Leave no model active: studies are received and wait."""
    from db import models

    site = open_site(home, config)
    with site.database.write() as session:
        models.deactivate(session)
    print("no model is active: studies are received and wait")


def verify(name: _Name, home: Home = None, config: Config = None, json: Json = False) -> None:
    """Recompute a bundle's digests and its golden output on this machine."""
    from model.engine import check_against_golden, open_engine
    from worker.registry import find_bundle

    site = open_site(home, config)
    bundle = find_bundle(site.settings, name)
    reading = site.settings.reading
    engine = open_engine(bundle, reading.precision, threads=1, engine=reading.engine)
    logits, activations = check_against_golden(engine, bundle)
    facts = {**_facts(bundle), "engine": engine.name, "precision": engine.precision}
    facts |= {"golden_logit_difference": logits, "golden_activation_difference": activations}
    if json:
        print_json(facts)
    else:
        print(f"{bundle.name} {bundle.digest[:12]}: digests agree")
        print(f"{engine.name} {engine.precision} gives the golden output")
        print(f"greatest difference: logits {logits:.2g}, activations {activations:.2g}")


def _facts(bundle: Bundle) -> dict[str, Any]:
    from worker.pipeline import preprocessing_id

    return {
        "name": bundle.name,
        "digest": bundle.digest,
        "preprocessing": preprocessing_id(bundle),
        "labels": [label.name for label in bundle.labels],
        "thresholds": {name: float(value) for name, value in bundle.thresholds.items()},
        "folder": str(bundle.folder),
    }


def _active_digest(site: Site) -> str | None:
    from db.models import active_model

    if not site.settings.database.url and not (site.settings.home / "cxr-triage.sqlite").exists():
        return None
    with site.database.read() as session:
        model = active_model(session)
    return None if model is None else model.digest
