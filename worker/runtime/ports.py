"""Whether a TCP port can be listened on, asked before anything is started."""

from __future__ import annotations

import socket
from typing import ClassVar


class StartFailed(Exception):
    """A precondition of the start is missing; the message names it and its remedy."""

    exit_code: ClassVar[int] = 1


def require_port(host: str, port: int, purpose: str, key: str) -> None:
    """Raise `StartFailed` if ``port`` cannot be listened on; ``key`` is the setting that changes it."""
    if port == 0:
        return
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except (OSError, UnicodeError) as error:  # a host name that cannot be one is a UnicodeError
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise StartFailed(
            f"port {port} on {host} ({purpose}) cannot be listened on: {reason}; "
            f"stop the program that uses it, or set {key}"
        ) from error
