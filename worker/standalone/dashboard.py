"""The status that `up` shows in a terminal: counts of images, addresses, and the state of each process.

If the output is not a terminal, only events are printed: a process that died, a model that is missing.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.installation import Site
from worker.monitoring.health import status_facts
from worker.standalone.supervisor import Kept, Supervisor

_TEND_EVERY = 0.5  # seconds
_LOOK_EVERY = 2.0  # seconds
_LOOK_SHARE = 0.05  # at most this share of the time is spent on counting, whose cost grows with the archive


def watch(site: Site, supervisor: Supervisor, stop: threading.Event, console: Console) -> None:
    """Supervise the processes until ``stop`` is set; in a terminal, show the status."""
    if not console.is_terminal:
        console.print("running; Ctrl-C stops")
        while not stop.wait(_TEND_EVERY):
            supervisor.tend()
        return
    facts, due_at = _look(site)
    with Live(picture(site, supervisor, facts), console=console, auto_refresh=False) as live:
        while not stop.wait(_TEND_EVERY):
            supervisor.tend()
            if time.monotonic() >= due_at:
                facts, due_at = _look(site)
            live.update(picture(site, supervisor, facts), refresh=True)


def _look(site: Site) -> tuple[dict[str, Any], float]:
    """Return the counts, and when (monotonic seconds) to count again."""
    started = time.monotonic()
    facts = status_facts(site)
    ended = time.monotonic()
    return facts, ended + max(_LOOK_EVERY, (ended - started) / _LOOK_SHARE)


def picture(site: Site, supervisor: Supervisor, facts: dict[str, Any]) -> Group:
    """Return the current status."""
    settings = site.settings
    head = Text()
    head.append(f"DICOM {settings.dicom.ae_title} {settings.dicom.host}:{settings.dicom.port}", style="bold")
    head.append(f"    web http://{settings.web.host}:{settings.web.port}/")
    model = facts["model"]
    head.append("    model ")
    head.append(model["name"], style="bold") if model else head.append("none: studies wait", style="yellow")
    studies = Table.grid(padding=(0, 3))
    names = ("received", "done", "not_applicable", "failed", "pending", "rejected")
    studies.add_row(*[Text(name.replace("_", " "), style="dim") for name in names])
    studies.add_row(*[_number(name, facts.get(name)) for name in names])
    deliveries = facts.get("deliveries") or {}
    sent = Text("deliveries  ", style="dim")
    sent.append(", ".join(f"{name} {number}" for name, number in deliveries.items()) or "-")
    processes = Table.grid(padding=(0, 2))
    for name, kept in supervisor.kept.items():
        processes.add_row(name, _state(kept), f"started again {kept.restarts} x" if kept.restarts else "")
    troubles = [f"{name}: {facts[name]}" for name in ("database", "broker", "store") if facts[name] != "ok"]
    lines: list[Any] = [Text(), head, studies, sent, processes]
    lines += [Text(trouble, style="red") for trouble in troubles]
    lines.append(Text("AI results: not for diagnosis    Ctrl-C stops", style="dim"))
    return Group(*lines)


def _number(name: str, value: int | None) -> Text:
    if value is None:
        return Text("?")
    alarming = {"failed": "red", "rejected": "yellow"}
    return Text(str(value), style=alarming.get(name, "bold") if value else "dim")


def _state(kept: Kept) -> Text:
    return Text("running", style="green") if kept.running else Text("down, will be started again", style="red")
