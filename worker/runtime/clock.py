"""The clock of every process: UTC, with a zone."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time, in UTC with a zone."""
    return datetime.now(UTC)
