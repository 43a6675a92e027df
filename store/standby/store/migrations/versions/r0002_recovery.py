"""Standings remember a cooldown after it ended, and when a disablement is checked anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what was there has neither recovered nor is to be rechecked."""
    for name in ("recovered_at", "decay_seconds", "recheck_at"):
        op.add_column("standings", sa.Column(name, sa.Double, nullable=False, server_default="0"))
