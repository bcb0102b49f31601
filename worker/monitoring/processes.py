"""The processes of an installation, on every machine, as their rows and their heartbeats show them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from db.engine import processes
from db.engine.leases import database_time
from db.engine.session import Database
from worker.runtime.clock import Clock
from worker.runtime.registered_process import PROCESSES, is_running


@dataclass(frozen=True)
class ProcessState:
    """One process; of a service that runs nowhere and left no row, the name alone.

    Attributes
    ----------
    state
        ``running``; ``lost``: it ended without saying so, or its machine is away; ``missing``: no row of this service.
    """

    name: str
    state: Literal["running", "lost", "missing"]
    host: str | None = None
    pid: int | None = None
    since: datetime | None = None
    last_heartbeat: datetime | None = None
    heartbeat_age_seconds: int | None = None

    def __str__(self) -> str:
        if self.since is None:
            return f"{self.name} {self.state}"
        return (
            f"{self.name} {self.state} on {self.host} (pid {self.pid}) since {self.since.isoformat(' ', 'seconds')}, "
            f"last heartbeat {self.heartbeat_age_seconds} s ago"
        )


def process_states(database: Database, clock: Clock) -> tuple[ProcessState, ...]:
    """Return what runs, what was lost and has not been started again on its machine, and what is missing.

    In the order of `PROCESSES`; ``analysis child`` comes last. `DatabaseUnavailable`.
    """
    with database.read() as session:
        moment = database_time(session, clock)
        rows = processes.unstopped(session)
    found: list[ProcessState] = []  # the newest first
    replaced: set[tuple[str, str]] = set()  # where another of this name was started since
    for row in reversed(rows):
        identity = row.identity
        state: Literal["running", "lost"] = "running" if is_running(row, moment) else "lost"
        if state == "running":
            replaced.add((identity.name, identity.host))
        elif (identity.name, identity.host) in replaced:
            continue
        age = max(0, round((moment - row.heartbeat_at).total_seconds()))
        found.append(
            ProcessState(identity.name, state, identity.host, identity.pid, row.started_at, row.heartbeat_at, age)
        )
    names = {each.name for each in found}
    found += [ProcessState(name, "missing") for name in PROCESSES if name not in names]
    order = {name: position for position, name in enumerate(PROCESSES)}
    return tuple(sorted(found, key=lambda each: order.get(each.name, len(order))))


def process_fact(process: ProcessState) -> dict[str, Any]:
    """Return a process as plain JSON values."""
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(process).items()}
