"""Run by alembic for every upgrade, on the connection and inside the transaction of the store that is being opened."""

from __future__ import annotations

from alembic import context

from standby.store._sql_schema import VERSION_TABLE
from standby.store._sql_tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
