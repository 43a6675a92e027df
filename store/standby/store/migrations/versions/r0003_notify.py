"""PostgreSQL says when something changed; a row of a document that somebody edits by hand becomes a version."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DOCUMENTS: Final = ("providers", "gateway_runner_policies", "model_runtime_policy_sets", "models")

NOTIFY: Final = """
CREATE FUNCTION standby_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('standby_changed', TG_TABLE_NAME);
    RETURN NULL;
END $$
"""
# What Standby itself stores has its version already, and says so.
EDITED: Final = """
CREATE FUNCTION standby_edited() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE newest integer;
BEGIN
    IF coalesce(current_setting('standby.storing', true), '') <> 'on' THEN
        PERFORM pg_advisory_xact_lock(23490384879706745);
        SELECT coalesce(max(version), 0) + 1 INTO newest FROM catalog_versions;
        INSERT INTO catalog_versions (version, imported_at, origin)
            VALUES (newest, extract(epoch FROM clock_timestamp()), 'edited in the database');
        INSERT INTO audit (at, who, what, target, why)
            VALUES (extract(epoch FROM clock_timestamp()), current_user, 'reload', 'catalog:' || newest,
                    'edited in the database: ' || TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Make the triggers; SQLite is asked for its version instead."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(NOTIFY)
    op.execute(EDITED)
    for table in ("catalog_versions", "standings"):
        op.execute(
            f"CREATE TRIGGER standby_changed AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION standby_notify()"
        )
    for table in DOCUMENTS:
        op.execute(
            f"CREATE TRIGGER standby_edited AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION standby_edited()"
        )
