"""What happens by the clock: expired leases are recovered, unfinished work is queued again."""
