"""Valkey (or Redis) as the message broker, keeping nothing on disk, so that killing it also empties it."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType

from tests.peers.processes import Process
from tests.peers.programs import free_port, require_peer


class Valkey:
    """A running server on a free loopback port. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        program = require_peer("valkey")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        arguments = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        arguments += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        self.process = Process("valkey", arguments, folder / "valkey.log", folder)

    @property
    def url(self) -> str:
        """Its address as Celery writes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Valkey:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop(5)

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self.process.start()
        self.process.wait_ready(self._answers, 60)

    def kill(self) -> None:
        """Kill -9 it; everything in it is lost."""
        self.process.kill()

    def empty(self) -> None:
        """Forget every message while it keeps running."""
        assert self.command("FLUSHALL").startswith("+OK")

    def command(self, *words: str) -> str:
        """Send one command in the inline protocol and return the raw answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65536).decode(errors="replace")

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith("+PONG")
        except OSError:
            return False
