"""The tables of an SQL store, in types that SQLite and PostgreSQL share. `migrations` brings a file to this form.

The catalog's four tables hold raw documents, as they were written, by version: a row is added where a document
changed, none is ever rewritten, and one without a document says that the name was removed. The row behind a rule that
a record of version 7 names is therefore the newest of that name whose version is at most 7.

All times are seconds since the epoch; all durations are seconds.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text

metadata: Final = MetaData()

# A SQLite table numbers its own rows only where the key's type is exactly INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")


def _documents(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("name", Text, primary_key=True),
        Column("version", Integer, ForeignKey("catalog_versions.version"), primary_key=True),
        Column("document", JSON(none_as_null=True)),
    )


catalog_versions: Final = Table(
    "catalog_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("imported_at", Double, nullable=False),
    Column("origin", Text, nullable=False),
)

DOCUMENTS: Final = {
    "providers": _documents("providers"),
    "runner_policies": _documents("gateway_runner_policies"),
    "runtime_policies": _documents("model_runtime_policy_sets"),
    "models": _documents("models"),
}
"""The table of each section of the configuration document that is part of the catalog."""

standings: Final = Table(
    "standings",
    metadata,
    Column("domain", Text, primary_key=True),
    # Grows with every commit, so that a process reads only what changed since it last looked.
    Column("seq", BigInteger, nullable=False),
    Column("cooling_until", Double, nullable=False),
    Column("cooled_at", Double, nullable=False),
    Column("cooldowns_in_row", Integer, nullable=False),
    Column("cooled_for", Text, nullable=False),
    Column("recovered_at", Double, nullable=False),
    Column("decay_seconds", Double, nullable=False),
    Column("failures_in_row", Integer, nullable=False),
    Column("disabled_at", Double, nullable=False),
    Column("disabled_by", Text, nullable=False),
    Column("disabled_why", Text, nullable=False),
    Column("recheck_at", Double, nullable=False),
    Column("demoted", Integer, nullable=False),
    Column("demoted_at", Double, nullable=False),
    Column("demoted_for", Text, nullable=False),
    Column("demote_step", Integer, nullable=False),
    Column("restore_seconds", Double, nullable=False),
    Column("probe_holder", Text, nullable=False),
    Column("probe_until", Double, nullable=False),
    Index("standings_by_seq", "seq"),
)

runs: Final = Table(
    "runs",
    metadata,
    Column("seq", _Serial, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("model", Text),
    Column("started_at", Double),
    Column("outcome", Text),
    Column("record", JSON, nullable=False),
    Index("runs_by_run_id", "run_id", unique=True),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("why", Text, nullable=False),
)
