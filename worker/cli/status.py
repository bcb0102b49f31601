"""Commands that ask how it stands: status, ledger."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from worker.cli.options import Config, Home, Json, print_json
from worker.installation import open_site
from worker.runtime.terminal_text import visible


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (status, ledger):
        app.command(rich_help_panel="Read")(command)


def status(home: Home = None, config: Config = None, json: Json = False) -> None:
    """Show the health of database, broker, store and model, and what waits. Exit code 1 if not ready."""
    from worker.monitoring.health import status_facts
    from worker.monitoring.processes import process_fact, process_states

    site = open_site(home, config).existing()
    facts = status_facts(site)
    processes = process_states(site.database, site.clock) if facts["database"] == "ok" else ()
    if json:
        print_json({**facts, "processes": [process_fact(each) for each in processes]})
    else:
        for key, value in facts.items():
            if key == "models":  # one line per model
                for model in value if len(value) > 1 else ():
                    print(f"{'':<18} {visible(model['name'])} reads {model['reads']}")
                continue
            text = ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, dict) else value
            print(f"{key.replace('_', ' '):<18} {visible(str(text))}")
        for process in processes:
            print(f"{'process':<18} {visible(str(process))}")
    if not facts["ready"]:
        raise typer.Exit(1)


def ledger(
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="List the images without a result, with reasons.")
    ] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", help="Only images received longer ago: 30s, 10m, 2h, 1d.")
    ] = "0s",
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Account for every received image: result, no result with reason, delivery, storage commitment."""
    from worker.monitoring.health import NO_MODEL
    from worker.monitoring.ledger import ledger_facts

    age = _parse_duration(older_than)
    facts = ledger_facts(open_site(home, config).existing(), age)
    if json:
        print_json(facts)
        return
    if facts["model"] is None:
        print(NO_MODEL)
    for key in ("received", "done", "not_applicable", "failed", "pending", "rejected"):
        print(f"{key.replace('_', ' '):<16} {facts[key]}")
    print("deliveries       " + ", ".join(f"{name} {number}" for name, number in facts["deliveries"].items()))
    if facts["commitments"]["asked"]:
        print("commitments      " + ", ".join(f"{name} {number}" for name, number in facts["commitments"].items()))
    if facts["refused_by_rule"]:
        rules = ", ".join(f"{rule} {number}" for rule, number in facts["refused_by_rule"].items())
        print(f"refused by rule  {visible(rules)}")
    for reason, number in facts["refusals"].items():
        print(f"  not read: {number} x {visible(reason)}")
    if unfinished:
        for entry in facts["unfinished"]:
            words = f"{entry['state']:<8} since {entry['since']}  {entry['sop_instance_uid']}  {entry['reason']}"
            print(f"  {visible(words)}")
        more = facts["unfinished_total"] - len(facts["unfinished"])
        if more > 0:
            print(f"  and {more} more: the oldest {len(facts['unfinished'])} are listed")


def _parse_duration(text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})\s*([smhd])", text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is not a duration; write 30s, 10m, 2h or 1d (six digits at most)", param_hint="--older-than"
        )
    return int(match[1]) * timedelta(seconds={"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])
