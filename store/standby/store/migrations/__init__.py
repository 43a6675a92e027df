"""The steps that bring an SQL store to the form of `standby.store._sql_tables`, one file a step, run by alembic."""
