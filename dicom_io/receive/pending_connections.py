"""Connections without an association yet: where there are too many, the oldest is closed.

A port scan, a load balancer's probe or an attacker may open any number. Rejecting new ones instead would let 200 idle
connections keep every modality out.
"""

import socket
import threading

from dicom_io.network.tls import shutdown


class PendingConnections:
    """At most `limit` connections, in the order in which they were accepted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pending: dict[int, socket.socket] = {}
        self._lock = threading.Lock()

    def add(self, key: int, connection: socket.socket) -> None:
        """Add a connection, and close the oldest where there are too many now."""
        with self._lock:
            self._pending[key] = connection
            evicted = self._pending.pop(next(iter(self._pending))) if len(self._pending) > self.limit else None
        if evicted is not None:
            shutdown(evicted)

    def replace(self, key: int, connection: socket.socket) -> None:
        """Put the TLS socket of the same connection in its place; close it where that was closed meanwhile."""
        with self._lock:
            if key in self._pending:
                self._pending[key] = connection
                return
        shutdown(connection)

    def remove(self, key: int) -> None:
        """Remove a connection that has an association now, or is closed."""
        with self._lock:
            self._pending.pop(key, None)

    def close_all(self) -> None:
        """Close every connection: the listener stops."""
        with self._lock:
            connections = list(self._pending.values())
            self._pending.clear()
        for connection in connections:
            shutdown(connection)
