"""The first form: the catalog by version, standings, runs and the audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "catalog_versions",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("imported_at", sa.Double, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
    )
    for name in ("providers", "gateway_runner_policies", "model_runtime_policy_sets", "models"):
        op.create_table(
            name,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("version", sa.Integer, sa.ForeignKey("catalog_versions.version"), primary_key=True),
            sa.Column("document", sa.JSON),
        )
    _make_standings()
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "runs",
        sa.Column("seq", serial, primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("started_at", sa.Double),
        sa.Column("outcome", sa.Text),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_index("runs_by_run_id", "runs", ["run_id"], unique=True)
    op.create_table(
        "audit",
        sa.Column("id", serial, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )


def _make_standings() -> None:
    op.create_table(
        "standings",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("cooling_until", sa.Double, nullable=False),
        sa.Column("cooled_at", sa.Double, nullable=False),
        sa.Column("cooldowns_in_row", sa.Integer, nullable=False),
        sa.Column("cooled_for", sa.Text, nullable=False),
        sa.Column("failures_in_row", sa.Integer, nullable=False),
        sa.Column("disabled_at", sa.Double, nullable=False),
        sa.Column("disabled_by", sa.Text, nullable=False),
        sa.Column("disabled_why", sa.Text, nullable=False),
        sa.Column("demoted", sa.Integer, nullable=False),
        sa.Column("demoted_at", sa.Double, nullable=False),
        sa.Column("demoted_for", sa.Text, nullable=False),
        sa.Column("demote_step", sa.Integer, nullable=False),
        sa.Column("restore_seconds", sa.Double, nullable=False),
        sa.Column("probe_holder", sa.Text, nullable=False),
        sa.Column("probe_until", sa.Double, nullable=False),
    )
    op.create_index("standings_by_seq", "standings", ["seq"])
