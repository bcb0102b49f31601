"""The broker's URL, the socket of the Valkey server that `up` embeds, and the length of the queues."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import ClassVar

from db.records import BATCH, LIVE
from worker.config.settings import Settings
from worker.runtime.timeouts import BROKER_TIMEOUT

_FIT_FOR_A_URL = re.compile(r"[A-Za-z0-9/._~+-]*")
_LONGEST_SOCKET_PATH = 100  # sun_path has 108 bytes on Linux, 104 on macOS


class BrokerUnavailable(Exception):
    """The broker does not answer, or no server program was found to embed."""

    exit_code: ClassVar[int] = 1


def socket_path(home: Path) -> Path:
    """Return the socket of the embedded broker: in the home folder if that path fits a socket and a URL, else /tmp."""
    path = home / "run" / "broker.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and _FIT_FOR_A_URL.fullmatch(str(path)):
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cxr-triage-{os.getuid()}-{digest}" / "broker.sock"


def broker_url(settings: Settings) -> str:
    """Return the URL Celery connects to: the configured one, else the embedded broker's socket."""
    return settings.broker.url.get_secret_value() or f"redis+socket://{socket_path(settings.home)}?virtual_host=0"


def client_url(settings: Settings) -> str:
    """Return the same broker's URL in the spelling of the redis client."""
    return settings.broker.url.get_secret_value() or f"unix://{socket_path(settings.home)}?db=0"


def queue_lengths(settings: Settings) -> dict[str, int]:
    """Return how many tasks wait in each queue.

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
