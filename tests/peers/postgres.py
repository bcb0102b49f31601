"""A PostgreSQL server of its own, in a temporary folder, on a random port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from tests.peers.processes import Process, port_answers
from tests.peers.programs import free_port, require_peer


class Postgres:
    """A running PostgreSQL cluster; use as a context manager. `database` makes a fresh, empty database.

    PostgreSQL refuses to run as root: there it runs as its package's user ``postgres``, in a folder that this
    user can reach.
    """

    def __init__(self, folder: Path) -> None:
        self._initdb, server = require_peer("initdb"), require_peer("postgres")
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        self.port = free_port()
        self.data = Path(tempfile.mkdtemp(prefix="cxr-triage-postgres-"))
        if self._as_user:
            user = pwd.getpwnam("postgres")
            os.chown(self.data, user.pw_uid, user.pw_gid)
        folder.mkdir(parents=True, exist_ok=True)
        words = ["-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.data), "-c", "fsync=off"]
        self.process = Process("postgres", [*self._as_user, server, *words], folder / "postgres.log", self.data)

    def __enter__(self) -> Postgres:
        words = [self._initdb, "-D", str(self.data), "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run([*self._as_user, *words], check=True, capture_output=True, cwd=self.data)
        self.process.start()
        self.process.wait_ready(lambda: port_answers(self.port), 60)
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def database(self) -> str:
        """Create a database and return its SQLAlchemy URL."""
        import psycopg

        name = f"t{uuid4().hex}"
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True) as link:
            link.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"
