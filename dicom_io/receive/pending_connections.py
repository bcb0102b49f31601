"""Connections on which no association has come to be yet: where there are too many, the one that idles longest goes.

A port scan, a TCP balancer's probe or a hostile peer may open any number. To turn newcomers away instead would let 200
idle connections keep every modality out.
"""

import socket
import threading

from dicom_io.network.tls import shut


class Newcomers:
    """At most so many connections, in the order of their coming."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: dict[int, socket.socket] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, key: int, connection: socket.socket) -> None:
        """Take one in, and end the oldest where there are too many now."""
        with self._lock:
            self._waiting[key] = connection
            evicted = self._waiting.pop(next(iter(self._waiting))) if len(self._waiting) > self.limit else None
        if evicted is not None:
            shut(evicted)

    def replace(self, key: int, connection: socket.socket) -> None:
        """The same connection in another object (TLS); one that was ended meanwhile stays so."""
        with self._lock:
            if key in self._waiting:
                self._waiting[key] = connection
                return
        shut(connection)

    def leave(self, key: int) -> None:
        """It has become an association, or is over."""
        with self._lock:
            self._waiting.pop(key, None)

    def end_all(self) -> None:
        """End every one: the listener stops."""
        with self._lock:
            connections = list(self._waiting.values())
            self._waiting.clear()
        for connection in connections:
            shut(connection)
