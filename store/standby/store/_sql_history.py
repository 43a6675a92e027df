"""The records of past runs and the audit, in a database.

A record waits in memory until a batch of them is written, so that a run costs no commit of its own; what is asked for
is looked up in both places. Runs make room for newer ones, in memory and on disk; the audit never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import islice
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.exc import DBAPIError

from ._audit import Audited
from ._database import Database
from ._engine import log
from ._errors import StoreError
from ._sql_tables import audit, runs
from ._writer import Writer

PART = "history"


@dataclass(slots=True, eq=False)  # not frozen: every run makes one, in half the time
class _Kept:
    run_id: str
    record: Mapping[str, Any]


class SqlHistory:
    """The records of past runs in a database, bounded; the newest are kept."""

    def __init__(self, file: Database, *, max_pending: int, keep_runs: int) -> None:
        self._file = file
        self._keep_runs = keep_runs
        self.writer: Writer[_Kept | Audited] = Writer(
            PART,
            file,
            self._commit,
            max_pending=max_pending,
            batch_size=200,
            linger_seconds=0.1,
            precious=lambda item: isinstance(item, Audited),
        )

    @property
    def trouble(self) -> str | None:
        """Why records are at present not written; `None` when they are."""
        return self._file.trouble(PART)

    @property
    def trouble_since(self) -> float | None:
        """Since when, in seconds since the epoch."""
        return self._file.since(PART)

    @property
    def pending(self) -> int:
        """How many records and lines of the audit wait to be written."""
        return self.writer.pending

    @property
    def dropped(self) -> int:
        """How many records were given up before they could be written."""
        return self.writer.dropped

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep one record. Never waits, never raises: a history that cannot keep up drops the oldest."""
        run_id = record.get("run_id")
        if isinstance(run_id, str):
            self.writer.add(_Kept(run_id, record))
        else:
            log.error("a record without a run_id was handed to the history of %s", self._file.name)

    def note(self, lines: Sequence[Audited]) -> None:
        """Keep lines of the audit, of what was done where no database could write them with it. Never waits.

        However many there are, none makes room for another.
        """
        for line in lines:
            self.writer.add(line)

    async def get(self, run_id: str) -> Mapping[str, Any] | None:
        """The record of one run; `None` where it is not, or no longer, known.

        Raises:
            StoreError: The database cannot be read.
        """
        for kept in reversed(self.writer):
            if isinstance(kept, _Kept) and kept.run_id == run_id:
                return kept.record
        found = await self._file.finish(self._found(run_id))
        return found[0] if found else None

    async def newest(self, limit: int = 100, before: str | None = None) -> Sequence[Mapping[str, Any]]:
        """The newest records first, at most ``limit``; only those older than the run ``before``, where given.

        Those that are not written yet come first, though another process may have written newer ones.

        Raises:
            StoreError: The database cannot be read.
        """
        # Taken before the first await: what is written meanwhile is then found twice rather than never.
        waiting = {kept.run_id: kept.record for kept in reversed(self.writer) if isinstance(kept, _Kept)}
        told = dict(waiting)
        if before is not None:
            ids = list(waiting)
            told = {run_id: waiting[run_id] for run_id in ids[ids.index(before) + 1 :]} if before in waiting else {}
        if len(told) < limit:
            written = await self._file.finish(
                self._written(limit + len(waiting), before if before not in waiting else None)
            )
            for run_id, record in written:
                if run_id not in waiting:
                    told.setdefault(run_id, record)
        return list(islice(told.values(), max(0, limit)))

    async def audit(self, limit: int = 100, until: float | None = None) -> Sequence[Audited]:
        """The newest lines of the audit first, at most ``limit``; none that is later than ``until``, where given.

        Those that are not written yet come first.

        Raises:
            StoreError: The database cannot be read.
        """
        # Taken before the first await: what is written meanwhile is then found twice rather than never.
        waiting = [line for line in reversed(self.writer) if isinstance(line, Audited)]
        told = {astuple(line): line for line in waiting if until is None or line.at <= until}
        try:
            written = await self._file.finish(self._audited(limit, until))
        except DBAPIError as error:
            raise StoreError(f"{self._file.words(error)}; the audit cannot be read") from error
        for line in written:
            told.setdefault(astuple(line), line)
        return list(islice(told.values(), max(0, limit)))

    async def _found(self, run_id: str) -> list[Mapping[str, Any]]:
        try:
            async with self._file.read() as connection:
                return list(await connection.scalars(select(runs.c.record).where(runs.c.run_id == run_id)))
        except DBAPIError as error:
            raise StoreError(f"{self._file.words(error)}; the records of runs cannot be read") from error

    async def _written(self, limit: int, before: str | None) -> list[tuple[str, Mapping[str, Any]]]:
        query = select(runs.c.run_id, runs.c.record).order_by(runs.c.seq.desc()).limit(max(0, limit))
        if before is not None:
            # Nothing is older than a run that is not known.
            query = query.where(runs.c.seq < select(runs.c.seq).where(runs.c.run_id == before).scalar_subquery())
        try:
            async with self._file.read() as connection:
                return [(run_id, record) for run_id, record in await connection.execute(query)]
        except DBAPIError as error:
            raise StoreError(f"{self._file.words(error)}; the records of runs cannot be read") from error

    async def _audited(self, limit: int, until: float | None) -> list[Audited]:
        query = select(audit.c.at, audit.c.who, audit.c.what, audit.c.target, audit.c.why)
        if until is not None:
            query = query.where(audit.c.at <= until)
        async with self._file.read() as connection:
            found = await connection.execute(query.order_by(audit.c.id.desc()).limit(max(0, limit)))
            return [Audited(*row) for row in found]

    async def _commit(self, batch: Sequence[_Kept | Audited]) -> None:
        # Of a record that was handed in twice, the later one is kept.
        latest = {kept.run_id: kept for kept in batch if isinstance(kept, _Kept)}
        rows = [_row(kept) for kept in latest.values()]
        lines = [asdict(line) for line in batch if isinstance(line, Audited)]
        async with self._file.write() as connection:
            if lines:
                await connection.execute(insert(audit), lines)
            if rows:
                await connection.execute(
                    delete(runs).where(runs.c.run_id == bindparam("key")), [{"key": row["run_id"]} for row in rows]
                )
                await connection.execute(insert(runs), rows)
            # Counted by their numbers and not one by one, for which all that is kept would have to be read.
            newest = select(func.max(runs.c.seq)).scalar_subquery()
            await connection.execute(delete(runs).where(runs.c.seq <= newest - self._keep_runs))
        self.writer.settle(batch)


def _row(kept: _Kept) -> dict[str, Any]:
    record = dict(kept.record)
    model, began_at, ending = record.get("model"), record.get("began_at"), record.get("ending")
    return {
        "run_id": kept.run_id,
        "model": model if isinstance(model, str) else None,
        "started_at": began_at if isinstance(began_at, int | float) else None,
        "outcome": ending if isinstance(ending, str) else None,
        "record": record,
    }
