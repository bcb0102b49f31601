"""Times that a clock, set back since, has written ahead of now: they must hold nothing up until it gets there again.

The margins are far beyond what a clock is corrected by in ordinary life, so that nothing is done twice for a second.
"""

from __future__ import annotations

from datetime import datetime, timedelta

LONGEST_LEASE = timedelta(hours=1)  # leases last minutes: one that ends later was written by a clock that ran ahead
LONGEST_WAIT = timedelta(minutes=30)  # a delivery is offered again after five minutes at most
ENQUEUED_AHEAD = timedelta(minutes=1)  # nobody rings in the future


def lease_is_over(until: datetime | None, now: datetime) -> bool:
    """Whether a lease has ended, or can never have been given for so long."""
    return until is None or until < now or until > now + LONGEST_LEASE
