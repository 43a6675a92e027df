"""Run-time state in a database: a row a domain, changed inside a transaction that is the only one to write.

How it is read, and what becomes of a change on its way, is told in `_shared_state.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ._audit import Audit
from ._database import Database
from ._shared_state import NO_ROW, Entry, Row, SharedState, reduced
from ._sql_tables import audit, standings
from ._standing import Standing

_COLUMNS = [standings.c[column.name] for column in fields(Standing)]

# Built once: a commit stands between a failed try and the next one.
_NEWER = select(standings.c.domain, standings.c.seq, *_COLUMNS).where(standings.c.seq > bindparam("seen"))
_OF_DOMAINS = select(standings.c.domain, standings.c.seq, *_COLUMNS).where(
    standings.c.domain.in_(bindparam("domains", expanding=True))
)
_LAST_SEQ = select(func.coalesce(func.max(standings.c.seq), 0))
_INSERT = insert(standings)
_UPDATE = (
    update(standings)
    .where(standings.c.domain == bindparam("key"))
    .values({column.name: bindparam(column.name) for column in (standings.c.seq, *_COLUMNS)})
)


class SqlState(SharedState):
    """Run-time state in a database: survives this process, and is shared with the others that use the same one."""

    def __init__(
        self, database: Database, *, commit_wait_seconds: float, max_pending: int, audit: Audit | None = None
    ) -> None:
        super().__init__(database, commit_wait_seconds=commit_wait_seconds, max_pending=max_pending)
        self._database = database
        self._audit = audit
        self._seen_seq = 0

    async def refresh(self, connection: AsyncConnection) -> None:
        """Learn what changed in the database since the last time."""
        rows = _rows(await connection.execute(_NEWER, {"seen": self._seen_seq}))
        await self.learn(rows)
        self._seen_seq = max((row.seq for row in rows.values()), default=self._seen_seq)

    async def _commit(self, batch: Sequence[Entry]) -> None:
        domains = sorted({change.domain for entry in batch for change in entry.changes})
        async with self._database.write(exclusive=True) as connection:
            rows = _rows(await connection.execute(_OF_DOMAINS, {"domains": domains}))
            before = {domain: rows.get(domain, NO_ROW).standing for domain in domains}
            done = reduced(before, batch)
            changes = {domain: after for domain, after in done.standings.items() if after != before[domain]}
            if changes:
                seq = (await connection.execute(_LAST_SEQ)).scalar_one() + 1
                await _write(connection, seq, changes, rows)
                rows |= {domain: Row(seq, standing) for domain, standing in changes.items()}
            if done.audited:
                await connection.execute(insert(audit), [asdict(line) for line in done.audited])
        self._committed(batch, rows, done.refused)
        if done.audited and self._audit is not None:
            self._audit(done.audited)


def _rows(found: Iterable[Any]) -> dict[str, Row]:
    return {domain: Row(seq, Standing(*values)) for domain, seq, *values in found}


async def _write(
    connection: AsyncConnection, seq: int, changes: Mapping[str, Standing], rows: Mapping[str, Row]
) -> None:
    # A domain that is clean again keeps its row: without it, other processes would not learn of it.
    old = [{"key": domain, "seq": seq, **asdict(after)} for domain, after in changes.items() if domain in rows]
    new = [{"domain": domain, "seq": seq, **asdict(after)} for domain, after in changes.items() if domain not in rows]
    if old:
        await connection.execute(_UPDATE, old)
    if new:
        await connection.execute(_INSERT, new)
