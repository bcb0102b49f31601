"""Commands of the data scientist: the registry of models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import model_import, model_verify
from worker.cli.options import Config, Home, Json, print_json
from worker.installation import open_site
from worker.model_registry.bundle_facts import model_facts

if TYPE_CHECKING:
    from db.model_registry.scope import ActiveModels, ModelScope

_Name = Annotated[str, typer.Argument(help="A model's name, the start of its digest, or a bundle's folder.")]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="The registry of models.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("show")(show)
    group.command("seal")(seal)
    group.command("activate")(activate)
    group.command("deactivate")(deactivate)
    model_verify.add_commands(group)
    model_import.add_commands(group)
    app.add_typer(group, name="model", rich_help_panel="Data scientist")


def list_models(home: Home = None, config: Config = None, json: Json = False) -> None:
    """List the models, and the scope of each active one (ages and views)."""
    from model.bundle.bundle import BundleInvalid
    from worker.model_registry.active_models import active_table, model_table
    from worker.model_registry.bundles import list_bundles
    from worker.runtime.terminal_text import visible

    site = open_site(home, config)
    active = active_table(site)
    models: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []
    listed = list_bundles(site.settings)
    folders = {str(found.folder) for found in listed if not isinstance(found, BundleInvalid)}
    in_use = {model.digest: model.folder for model in active.models if model.folder in folders}
    for found in listed:
        if isinstance(found, BundleInvalid):
            broken.append({"folder": str(found.folder), "reason": str(found)})
        else:
            # a re-quantized or re-calibrated bundle has the same digest: the active one is that whose folder is in use
            is_other = in_use.get(found.digest, str(found.folder)) != str(found.folder)
            reads = "" if is_other else active.reads(found.digest)
            models.append({**model_facts(found), "active": bool(reads), "reads": reads})
    if json:
        print_json({"models": models, "broken": broken, "active": model_table(active)})
        return
    for facts in models:
        mark = "active" if facts["active"] else ""
        print(f"{facts['name']:<24} {facts['digest'][:12]}  {mark:<6}  {', '.join(facts['labels'])}")
    for entry in broken:
        print(visible(f"unusable: {entry['reason']}"))
    if not models:
        print("no models")
    _print_table(active)


def show(name: _Name, home: Home = None, config: Config = None, json: Json = False) -> None:
    """Show a model's card: training data, measured quality, known weaknesses."""
    from worker.model_registry.bundles import find_bundle

    bundle = find_bundle(open_site(home, config).settings, name)
    card = ""  # no digest covers the card, and a bundle may lack it
    if bundle.card_path.is_file():
        card = bundle.card_path.read_text(encoding="utf-8", errors="replace")
    if json:
        print_json({**model_facts(bundle), "metrics": bundle.metrics, "card": card})
    elif card:
        from rich.console import Console
        from rich.markdown import Markdown

        from worker.runtime.terminal_text import visible

        Console().print(Markdown("\n".join(visible(line.replace("\t", "    ")) for line in card.splitlines())))
    else:
        print(f"{bundle.name} {bundle.version} {bundle.digest[:12]} has no card ({bundle.card_path.name})")


def seal(
    folder: Annotated[Path, typer.Argument(help="A bundle's folder.", metavar="FOLDER")],
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Renew the manifest checksum after an intended change of model.toml: thresholds, calibration, ages, views, codes.

    The network itself (weights, labels, head, preprocessing) cannot be changed this way.
    """
    from model.bundle.bundle import DESCRIPTION_FILE
    from model.publish.bundle_writer import renew_manifest_checksum

    open_site(home, config)
    if not (folder / DESCRIPTION_FILE).is_file():
        raise typer.BadParameter(f"{folder} is not a bundle: it holds no {DESCRIPTION_FILE}", param_hint="FOLDER")
    bundle = renew_manifest_checksum(folder)
    facts = {**model_facts(bundle), "ages": bundle.ages, "views": bundle.views}
    calls = {calibration.group or "all": calibration.thresholds for calibration in bundle.calibrations}
    if json:
        print_json({**facts, "calls": calls})
        return
    print(f"{bundle.name} {bundle.digest[:12]}: manifest checksum renewed for {DESCRIPTION_FILE}")
    print(f"ages: {', '.join(f'{low:g}-{high:g}' for low, high in bundle.ages) or 'any'}")
    print(f"views: {', '.join(bundle.views) or 'any'}")
    for group, thresholds in calls.items():
        print(f"thresholds of {group}: {', '.join(f'{label} {value:g}' for label, value in thresholds.items())}")
    print("running workers use it after their next start")


def activate(
    name: _Name,
    ages: Annotated[
        str | None, typer.Option("--ages", help="Only these ages in whole years, inclusive: 0-17, or 0-1,12-17.")
    ] = None,
    views: Annotated[str | None, typer.Option("--views", help="Only these views: PA, AP.")] = None,
    default: Annotated[
        bool,
        typer.Option(
            "--default", help="With --ages or --views: also every image outside the scope of the other active models."
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove these ages and views from the scope of the other active models.")
    ] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a model active for these ages and views or, without them, as the default for all other images.

    The bundle is verified first; if it is broken, the active models stay. Images of unknown age or view go to the
    default model.
    """
    from worker.model_registry.active_models import active_table, model_table
    from worker.model_registry.bundles import activate as make_active

    scope = parse_scope(ages, views)
    site = open_site(home, config)
    bundle = make_active(site, name, scope, default=default, replace=replace)
    active = active_table(site)
    if json:
        print_json({"name": bundle.name, "digest": bundle.digest, "active": model_table(active)})
        return
    print(f"active: {bundle.name} {bundle.digest[:12]}; running workers use it for the next study")
    _print_table(active)


def deactivate(
    name: Annotated[str | None, typer.Argument(help="An active model; without it, all of them.")] = None,
    home: Home = None,
    config: Config = None,
) -> None:
    """Deactivate a model; while none is active, studies are received and wait."""
    from worker.model_registry.active_models import active_table
    from worker.model_registry.bundles import deactivate as make_inactive

    site = open_site(home, config).existing()
    gone = make_inactive(site, name)
    active = active_table(site)
    if gone is not None:
        print(f"{gone} is no longer active")
    _print_table(active)


def parse_scope(ages: str | None, views: str | None) -> ModelScope | None:
    """Return the ages and views of the command line; None where neither is given. `typer.BadParameter`."""
    from db.model_registry.scope import OLDEST, VIEWS, ModelScope, joined

    if ages is None and views is None:
        return None
    ranges = []
    for part in (ages or "").split(",") if ages is not None else ():
        found = re.fullmatch(r"\s*(\d{1,3})(?:\s*-\s*(\d{1,3}))?\s*", part)
        low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not 0 <= low <= high <= OLDEST:
            raise typer.BadParameter(
                f"{ages!r}: write whole years from 0 to {OLDEST}, such as 0-17 or 0-1,12-17", param_hint="--ages"
            )
        ranges.append((low, high))
    named = tuple(dict.fromkeys(word.strip().upper() for word in views.split(","))) if views is not None else ()
    if wrong := [word for word in named if word not in VIEWS]:
        raise typer.BadParameter(
            f"{', '.join(wrong) or 'nothing'!r}; allowed: {', '.join(VIEWS)}", param_hint="--views"
        )
    return ModelScope(joined(ranges), named)


def _print_table(active: ActiveModels) -> None:
    from worker.runtime.terminal_text import visible

    if not active:
        print("no model is active: studies are received and wait")
        return
    print("scope of each active model:")
    for model in active.models:
        print(visible(f"  {model.name:<22} {model.digest[:12]}  {active.reads(model.digest)}"))
    if active.default is None:
        print("  no default model: images outside every scope (unknown ages included) get no result, with that reason")
