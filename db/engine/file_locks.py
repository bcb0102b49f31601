"""Locks on one file of the store: who records it, and who deletes it because no row names it, take turns.

On PostgreSQL these are advisory locks until the end of the transaction, one for each address: a file that is slow to
delete holds up nobody but an arrival of the same bytes. SQLite has one writer at a time.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import func, select

from db.engine.session import Session


def share_file(session: Session, uri: str) -> None:
    """Keep a file from being deleted until the transaction ends, which records it; before its row is written."""
    _lock(session, "pg_advisory_xact_lock_shared", uri)


def hold_file(session: Session, uri: str) -> None:
    """Let nobody record a file until the transaction ends: that no row names it stays true while it is deleted."""
    _lock(session, "pg_advisory_xact_lock", uri)


def _lock(session: Session, function: str, uri: str) -> None:
    if session.get_bind().dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(uri.encode()).digest()[:8], "big", signed=True)
        session.execute(select(getattr(func, function)(key)))
