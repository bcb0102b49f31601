"""Commands that run: the whole machine (`up`), or one of its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.options import Config, Home
from worker.installation import Site, open_site


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    panel = "Run"
    for command in (up, listen, work, deliver, schedule, web):
        app.command(rich_help_panel=panel)(command)


def up(
    home: Home = None,
    config: Config = None,
    demonstrate: Annotated[
        bool,
        typer.Option("--demonstrate", help="Send two real radiographs, show their results, and keep running."),
    ] = False,
) -> None:
    """Run every process on this machine: broker, listener, worker, delivery, scheduler, web. Ctrl-C stops them."""
    from worker.standalone.up import run_up

    site = open_site(home, config)
    raise typer.Exit(run_up(site, home, config, demonstrate=demonstrate))


def listen(home: Home = None, config: Config = None) -> None:
    """Receive DICOM objects."""
    site = _start("listen", home, config)
    from worker.services.listener import run_listener

    run_listener(site)


def work(home: Home = None, config: Config = None) -> None:
    """Analyse images: a Celery worker with one child per core."""
    site = _start("work", home, config)
    from worker.services.analysis import run_analysis

    run_analysis(site)


def deliver(home: Home = None, config: Config = None) -> None:
    """Send result objects to the configured destinations."""
    site = _start("deliver", home, config)
    from worker.services.delivery import run_delivery

    run_delivery(site)


def schedule(home: Home = None, config: Config = None) -> None:
    """Recover expired leases, queue unfinished work again, import the watched folder, apply retention."""
    site = _start("schedule", home, config)
    from worker.services.scheduler import run_scheduler

    run_scheduler(site)


def web(home: Home = None, config: Config = None) -> None:
    """Serve the web pages, the JSON interface, health and metrics."""
    site = _start("web", home, config)
    from worker.web.app import serve

    serve(site)


def _start(process: str, home: Path | None, config: Path | None) -> Site:
    from worker.runtime.logs import configure_logging

    site = open_site(home, config)
    configure_logging(process)
    return site
