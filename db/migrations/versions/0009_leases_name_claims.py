"""The owner of a lease names the claim, no longer the process: leases of the former program are released.

Its processes are stopped before an upgrade, so nobody holds them. The attempts stay counted.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    free = "state = 'pending', lease_owner = NULL, lease_until = NULL"
    op.execute(f"UPDATE analysis SET {free}, enqueued_at = NULL WHERE state = 'running'")
    op.execute(f"UPDATE delivery SET {free} WHERE state = 'sending'")
    op.execute(f"UPDATE commitment SET {free} WHERE state = 'reporting'")
