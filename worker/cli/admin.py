"""Commands of the engineer: echo, send, redeliver, config, forget, db."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.options import Config, Home, Json, print_json
from worker.installation import make_home, open_site
from worker.runtime.terminal_text import visible

_Name = Annotated[str, typer.Argument(help="A configured destination, or 'self' for our own listener.")]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    panel = "Engineer"
    for command in (echo, send, redeliver, config_command, forget):
        app.command(name=command.__name__.removesuffix("_command"), rich_help_panel=panel)(command)
    database = typer.Typer(help="The database.", no_args_is_help=True)
    database.command("upgrade")(db_upgrade)
    app.add_typer(database, name="db", rich_help_panel=panel)


def echo(name: _Name = "self", home: Home = None, config: Config = None, json: Json = False) -> None:
    """Test the connection to a DICOM peer (C-ECHO)."""
    from dicom_io.send.storage_scu import echo as c_echo
    from worker.config.dicom_peers import named_peer

    peer = named_peer(open_site(home, config).settings, name)
    c_echo(peer)
    if json:
        print_json({"name": name, "ae_title": peer.ae_title, "host": peer.host, "port": peer.port, "answered": True})
    else:
        print(f"{name}: {peer.ae_title} at {peer.host}:{peer.port} answers")


def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.", metavar="PATH...")],
    to: Annotated[str, typer.Option("--to", help="A configured destination, or 'self' for our own listener.")] = "self",
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Send DICOM files by C-STORE, to our own listener by default."""
    from dicom_io.header.input_files import find_inputs
    from dicom_io.send.storage_scu import Outgoing
    from dicom_io.send.storage_scu import send as c_store
    from worker.config.dicom_peers import named_peer

    peer = named_peer(open_site(home, config).settings, to)
    items: list[Outgoing] = []
    results: list[dict[str, object]] = []
    for found in find_inputs(paths):
        if found.kind == "dicom":
            items.append(Outgoing(str(found.path), found.path))
        else:
            results.append(
                {"path": str(found.path), "result": "permanent", "status": None, "reason": "not a DICOM file"}
            )
    for outcome in c_store(peer, items) if items else ():
        results.append(
            {"path": outcome.key, "result": outcome.result, "status": outcome.status, "reason": outcome.reason}
        )
    if json:
        print_json({"to": to, "results": results})
    else:
        for result in results:
            print(visible(f"{result['result']:<10} {result['path']}  {result['reason']}"))
        if not results:
            print("nothing to send")
    if not results or any(result["result"] != "stored" for result in results):
        raise typer.Exit(1)


def redeliver(
    name: Annotated[str, typer.Argument(help="A configured destination.")],
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Send again the objects that a destination refused permanently, after the cause was corrected."""
    from db.delivery.outbox import retry_failed
    from db.engine.leases import database_time
    from worker.config.dicom_peers import OURSELVES, named_destination
    from worker.config.settings import ConfigurationError

    site = open_site(home, config).existing()
    if name == OURSELVES:
        raise ConfigurationError("objects are not delivered to our own listener; name a configured destination")
    named_destination(site.settings, name)
    with site.database.write() as session:
        number = retry_failed(session, name, database_time(session, site.clock))
    if json:
        print_json({"destination": name, "offered_again": number})
    else:
        print(f"{name}: {number} objects are pending again; the process `deliver` sends them")


def config_command(home: Home = None, config: Config = None, json: Json = False) -> None:
    """Print the configuration in force; passwords and the token are masked."""
    from worker.config.urls import SecretUrl

    settings = open_site(home, config).settings
    facts = settings.model_dump(mode="json")
    facts["storage"]["home"] = str(settings.home)
    facts["database"]["url"] = str(SecretUrl(settings.database_url))
    if json:
        print_json(facts)
        return
    for section, values in facts.items():
        _print_section(section, values)


def forget(
    study: Annotated[str | None, typer.Option("--study", help="A Study Instance UID.", metavar="UID")] = None,
    patient: Annotated[str | None, typer.Option("--patient", help="A Patient ID.", metavar="ID")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Written to the audit log with the removal.")] = "on request",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Remove a study, or all studies of a patient, with files, rows and objects: here, not in the PACS. Audited."""
    from worker.retention.erasure import forget as remove

    if (study is None) == (patient is None) or not (study or patient or "").strip():
        # an empty ID (an unset variable of a script) would match every study without a Patient ID
        raise typer.BadParameter("give either --study UID or --patient ID; an empty value is not allowed")
    if "\N{REPLACEMENT CHARACTER}" in (patient or ""):
        raise typer.BadParameter(
            "this Patient ID could not be decoded, and other patients' IDs may look the same: give --study UID"
        )
    site = open_site(home, config).existing()
    if not yes:
        typer.confirm("Remove it here permanently, with its results and undelivered objects?", abort=True)
    records = remove(site.database, site.store, site.clock, study_instance_uid=study, patient_id=patient, reason=reason)
    facts = {
        "studies": len(records),
        "instances": sum(record.instances for record in records),
        "objects": sum(record.objects for record in records),
    }
    if json:
        print_json(facts)
    else:
        print(f"removed: {facts['studies']} studies, {facts['instances']} instances, {facts['objects']} objects")
    if not records:
        raise typer.Exit(1)


def db_upgrade(home: Home = None, config: Config = None) -> None:
    """Migrate the database schema to this program's version."""
    from db.engine.schema import upgrade
    from db.engine.session import Database
    from worker.model_registry.bundles import follow_moved

    site = open_site(home, config)
    settings = site.settings
    if not settings.database.url:
        make_home(settings)
    database = Database(settings.database_url)
    print(f"{database.place}: revision {upgrade(database, site.clock())}")
    for bundle in follow_moved(site):
        print(visible(f"model {bundle.name} is read from {bundle.folder} now"))


def _print_section(name: str, values: Any) -> None:  # noqa: ANN401 - of JSON
    """Print a table, or a list of tables, with the tables inside it; unset keys are left out: TOML has no null."""
    for table in values if isinstance(values, list) else (values,):
        print(f"[[{name}]]" if isinstance(values, list) else f"[{name}]")
        inner = {key: value for key, value in table.items() if isinstance(value, dict) or (value and _is_tables(value))}
        for key, value in table.items():
            if key not in inner and value is not None:
                print(f"{key} = {_toml(value)}")
        print()
        for key, value in inner.items():
            _print_section(f"{name}.{key}", value)


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _toml(value: object) -> str:
    import json

    # JSON and TOML write strings, numbers, booleans and lists of these alike
    return json.dumps(value, ensure_ascii=False)
