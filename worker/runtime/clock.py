"""The clock of every process: UTC, with a zone. Composition roots pass it on; nothing else reads the time of day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # returns the time, in UTC with a zone


def now() -> datetime:
    """Return the time, in UTC with a zone."""
    return datetime.now(UTC)
