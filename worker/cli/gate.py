"""Commands of the admission gate: its decision on a file, its rules, and new decisions on rejected images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.options import Config, Home, Json, print_json
from worker.installation import Site, open_site
from worker.runtime.terminal_text import visible


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command(rich_help_panel="Read")(explain)
    app.command("read-anyway", rich_help_panel="Read")(read_anyway)
    group = typer.Typer(help="The admission gate.", no_args_is_help=True)
    group.command("rules")(rules)
    group.command("apply")(apply)
    app.add_typer(group, name="gate", rich_help_panel="Engineer")


def explain(
    file: Annotated[Path, typer.Argument(help="A DICOM file.", exists=True, dir_okay=False)],
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show which rule of the admission gate decides on a file, on which header values, and the model that fits it."""
    if not file.is_file():  # opening a pipe would block, and a device may have no end
        raise typer.BadParameter(f"{str(file)!r} is not a regular file", param_hint="FILE")
    from dicom_io.gate.decision import decide
    from dicom_io.header.instance_header import read_header
    from worker.admission.rules import gate_rules, rules_version
    from worker.model_registry.active_models import active_table

    site = open_site(home, config)
    in_force = gate_rules(site.settings)
    header = read_header(file, in_force.tags)
    is_own, person = _recorded(site, header.sop_instance_uid)
    decision = decide(header, in_force, is_own=is_own)
    active = active_table(site)
    model = active.model_for(header.age_years, header.view)
    facts: dict[str, Any] = {
        "file": str(file),
        "accepted": decision.accepted,
        "rule": decision.rule,
        "reason": decision.reason,
        "flags": list(decision.flags),
        "facts": dict(decision.header_values),
        "rules_version": rules_version(in_force),
        "model": None if model is None else model.name,
        "read_anyway": person,
    }
    if json:
        print_json(facts)
        return
    print(f"{'accepted' if decision.accepted else 'refused'} by rule '{decision.rule}': {visible(decision.reason)}")
    if person:
        print(visible(f"analysed here by a person's decision: {person}"))
    for flag in decision.flags:
        print(f"  ! {flag}")
    for name, value in decision.header_values.items():
        print(f"  {name:<24} {visible(str(value)) if value not in ('', None) else '-'}")
    if active:
        nobody = active.why_no_model(header.age_years, header.view)
        print(f"  {'model':<24} {visible(nobody if model is None else model.name)}")


def read_anyway(
    sop_instance_uid: Annotated[
        str, typer.Argument(help="SOP Instance UID of a rejected image.", metavar="SOP_INSTANCE_UID")
    ],
    by: Annotated[
        str, typer.Option("--by", help="Name of the person who decides; stored with the decision.", metavar="NAME")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Reason; stored with the decision.", metavar="TEXT")],
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Analyse an image although the gate rejected it; its result carries the flag "read although refused". Audited.

    Our own objects, objects without pixels and multi-frame objects are never analysed.
    """
    from worker.admission.review import have_read

    site = open_site(home, config).existing()
    made = have_read(site, sop_instance_uid, by=by, reason=reason)
    if json:
        print_json(
            {
                "sop_instance_uid": made.sop_instance_uid,
                "refused_by": made.refused_by,
                "queued": made.analysis_id is not None,
            }
        )
    else:
        queued = "queued" if made.analysis_id is not None else "waits until a model whose scope covers it is active"
        print(visible(f"{made.sop_instance_uid}: {queued}, although refused by the rule '{made.refused_by}'"))


def rules(home: Home = None, config: Config = None, json: Json = False) -> None:
    """Show the rules in force, the site's own included, and how many images each has rejected."""
    from db.views.ledger import refused_by_rule
    from dicom_io.gate.decision import RULES
    from worker.admission.rules import gate_rules, rules_version

    site = open_site(home, config)
    in_force = gate_rules(site.settings)
    refused: dict[str, int] = {}
    if site.settings.has_database:
        with site.database.read() as session:
            refused = refused_by_rule(session)
    table: list[dict[str, Any]] = [
        {"rule": rule.name, "asks": f"the image {rule.asks}", "relaxable": rule.relaxable, "site": False}
        for rule in RULES
    ]
    for own in site.settings.gate.rules:
        condition = {"equals": own.equals, "matches": own.matches, "missing": own.missing}
        said = " ".join(f"{key} {value}" for key, value in condition.items() if value is not None)
        does = f"relaxes {', '.join(own.relaxes)}" if own.action == "read" else own.action
        table.append({"rule": own.name, "asks": f"{own.tag} {said}: {does}", "relaxable": False, "site": True})
    for line in table:
        line["refused"] = refused.pop(line["rule"], 0)
    if json:
        print_json({"rules_version": rules_version(in_force), "rules": table, "former_rules": refused})
        return
    print(
        f"rules version {rules_version(in_force)}; applied from the top; the first rule that objects rejects the image"
    )
    for line in table:
        mark = "site" if line["site"] else "can be relaxed" if line["relaxable"] else ""
        print(
            visible(f"{line['refused']:>7} refused  {line['rule']:<22} {line['asks']}{f'  [{mark}]' if mark else ''}")
        )
    for name, number in refused.items():
        print(visible(f"{number:>7} refused  {name:<22} by a rule that is no longer in force"))


def apply(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show which images would be analysed; change nothing.")
    ] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Apply the current rules to images that earlier rules rejected, and analyse those that are now accepted.

    Accepted images stay accepted, and so does a person's decision.
    """
    from rich.console import Console
    from rich.progress import Progress

    from worker.admission.review import apply_rules

    site = open_site(home, config).existing()
    admitted: list[str] = []
    problems: list[str] = []
    asked = 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("deciding again", total=None)
        for each in apply_rules(site, dry_run=dry_run):
            asked += 1
            progress.update(task, completed=asked)
            if each.problem:
                problems.append(each.problem)
            elif each.decision is not None and each.decision.accepted:
                admitted.append(each.sop_instance_uid)
    if json:
        print_json({"asked": asked, "admitted": admitted, "problems": problems, "dry_run": dry_run})
    else:
        print(f"{asked} rejected images decided again: {len(admitted)} {'would be' if dry_run else 'are now'} read")
        for uid in admitted:
            print(visible(f"  {uid}"))
        for problem in problems:
            print(visible(f"  not decided: {problem}"))
    if problems:
        raise typer.Exit(1)


def _recorded(site: Site, sop_instance_uid: str) -> tuple[bool, str]:
    """Whether an image is one of our own objects, and which person's decision overrides the gate."""
    if not site.settings.has_database:
        return False, ""
    from db.intake.gate_decisions import decided
    from db.intake.instances import is_own_object

    with site.database.read() as session:
        is_own = is_own_object(session, sop_instance_uid)
        found = decided(session, sop_instance_uid)
    if found is None or not found.decision.decided_by:
        return is_own, ""
    return (
        is_own,
        f"{found.decision.reason} ({found.decision.decided_by}, {found.decision.decided_at:%Y-%m-%d %H:%M} UTC)",
    )
