"""The condition of the database: whether it answers, has this program's schema, and makes commits durable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from db.engine.schema import HEAD_REVISION, revision
from db.engine.session import Database

# where a shared-memory file cannot be shared, a SQLite write-ahead log breaks (https://sqlite.org/wal.html)
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "fuse.glusterfs", "ceph", "9p"}


@dataclass(frozen=True)
class DatabaseCondition:
    """What a database reports about itself.

    Attributes
    ----------
    product
        Such as ``SQLite 3.40.1`` or ``PostgreSQL 15.3``.
    revision, needed
        The schema's revision (None: empty), and this program's.
    settings
        What decides whether a commit survives a power cut, as the database names and states it.
    faults
        Which of these settings lose commits, in words; empty where a commit is durable.
    clock
        The database's own time; None for SQLite, which has none.
    """

    product: str
    revision: str | None
    needed: str
    settings: dict[str, str]
    faults: tuple[str, ...]
    clock: datetime | None


def condition(database: Database) -> DatabaseCondition:
    """Ask a database about itself. `db.engine.session.DatabaseUnavailable` if it does not answer."""
    found = revision(database)
    if database.is_sqlite:
        product, settings, faults, clock = _sqlite(database)
    else:
        product, settings, faults, clock = _postgresql(database)
    return DatabaseCondition(product, found, HEAD_REVISION, settings, tuple(faults), clock)


def _sqlite(database: Database) -> tuple[str, dict[str, str], list[str], datetime | None]:
    with database.read() as session:
        version = str(session.execute(text("SELECT sqlite_version()")).scalar())
        journal = str(session.execute(text("PRAGMA journal_mode")).scalar())
        synchronous = int(session.execute(text("PRAGMA synchronous")).scalar() or 0)
    faults = []
    if journal != "wal":
        faults.append(f"journal_mode is {journal}, not wal")
    if synchronous < 2:
        faults.append(f"synchronous is {synchronous}, below 2 (FULL)")
    kind = file_system(Path(database.engine.url.database or "."))
    if kind in _NETWORK_FILE_SYSTEMS:
        faults.append(f"it lies on {kind}, where SQLite's write-ahead log does not work")
    level = {0: "off", 1: "normal", 2: "full", 3: "extra"}.get(synchronous, str(synchronous))
    return f"SQLite {version}", {"journal": journal, "synchronous": level, "file system": kind}, faults, None


def _postgresql(database: Database) -> tuple[str, dict[str, str], list[str], datetime | None]:
    names = ("fsync", "synchronous_commit", "full_page_writes")
    with database.read() as session:
        version = str(session.execute(text("SHOW server_version")).scalar()).split()[0]
        settings = {name: str(session.execute(text(f"SHOW {name}")).scalar()) for name in names}
        clock = session.execute(text("SELECT clock_timestamp()")).scalar()
    faults = [f"{name} is off" for name, value in settings.items() if value == "off"]
    return f"PostgreSQL {version}", settings, faults, clock.astimezone(UTC) if isinstance(clock, datetime) else None


def file_system(path: Path) -> str:
    """Return the file system that holds ``path``, such as ``ext4``; ``unknown`` where it is not reported."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    # a mount point is written with its blanks as \040 (getmntent(3))
    mounts = [(fields[1].replace("\\040", " "), fields[2]) for line in lines if len(fields := line.split()) > 2]
    resolved = path.resolve()
    holding = [(len(point), kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(holding, default=(0, "unknown"), key=lambda entry: entry[0])[1]
