"""Run-time state that a restart remembers and other processes share, read from memory and written behind.

Three layers, each one the layer below and something on top of it:

- the database: a row a domain, changed only by `changed()` inside BEGIN IMMEDIATE, so that whatever several processes
  do at once comes to what one process would have made of it, one after the other;
- what this process last saw of the database;
- the mirror, which every read is answered from: what was last seen, with the effects on top that are not committed yet.

An effect is therefore visible here at once, and only then written; and what others commit is laid under it, never over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import anyio
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ._database import Database
from ._memory import MemoryState
from ._sql_tables import audit, standings
from ._sql_writer import Writer
from ._standing import (
    CLEAN,
    Cool,
    Disable,
    Effect,
    Enable,
    Restore,
    Standing,
    Succeeded,
    changed,
    leased,
    returned,
)

PART = "state"

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


@dataclass(frozen=True, slots=True)
class _Lease:
    domain: str
    holder: str
    now: float
    until: float


@dataclass(frozen=True, slots=True)
class _Return:
    domain: str
    holder: str


_Change = Effect | _Lease | _Return


@dataclass(slots=True, eq=False)
class _Entry:
    """Changes that are committed together, and what became of them.

    Attributes:
        all_or_none: They are leases, of which all are had or none.
        shown: The mirror shows them already.
        kept: Set when they are committed.
        granted: Whether the leases were had.
        abandoned: Nobody wants the leases any more.
    """

    changes: Sequence[_Change]
    all_or_none: bool = False
    shown: bool = True
    kept: asyncio.Event = field(default_factory=asyncio.Event)
    granted: bool = False
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A domain's standing as it is in the database, and the commit that made it so."""

    seq: int
    standing: Standing


_NO_ROW = _Row(0, CLEAN)


@dataclass(slots=True)
class _Reduced:
    """What a batch makes of the rows it was laid on."""

    standings: dict[str, Standing]
    audited: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    refused: set[_Entry] = field(default_factory=set[_Entry])


class SqlState:
    """Run-time state in a database: survives this process, and is shared with the others that use the same file."""

    def __init__(self, file: Database, *, commit_wait_seconds: float, max_pending: int) -> None:
        self._file = file
        self._commit_wait_seconds = commit_wait_seconds
        self._mirror = MemoryState()
        self._seen: dict[str, _Row] = {}
        self._seen_seq = 0
        self.writer: Writer[_Entry] = Writer(
            PART, file, self._commit, max_pending=max_pending, batch_size=256, precious=_is_an_operators_or_disables
        )

    # -- reading: from memory ------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Grows with every change of any standing, wherever it was made."""
        return self._mirror.generation

    @property
    def trouble(self) -> str | None:
        """Why changes are at present not kept for others or for a restart; `None` when they are."""
        if self.writer.closed:
            return f"{self._file.name} is closed"
        return self._file.trouble(PART, "poll")

    @property
    def dropped(self) -> int:
        """How many changes were given up before they could be written; this process knows them all the same."""
        return self.writer.dropped

    def standing(self, domain: str) -> Standing | None:
        """What is known of ``domain``; `None` where nothing is held against it."""
        return self._mirror.standing(domain)

    def standings(self) -> Mapping[str, Standing]:
        """Every domain that something is known of."""
        return self._mirror.standings()

    async def changed(self, generation: int) -> None:
        """Wait until `generation` is not ``generation``."""
        await self._mirror.changed(generation)

    # -- changing ------------------------------------------------------------------------------------------------

    async def apply(self, effects: Sequence[Effect]) -> None:
        """Make the effects true: here at once, and in the database within a bounded time, if that can be had.

        Where it cannot, this returns all the same, and the effects are written when they can be. Being cancelled
        changes nothing of that.
        """
        # A success of what nothing is held against is by far the most frequent effect, and not worth a commit. It could
        # matter only to what another process did since the last look, and then it says too little: it may be older.
        idle = all(
            isinstance(effect, Succeeded) and changed(self._held(effect.domain), effect) is self._held(effect.domain)
            for effect in effects
        )
        if idle:
            return
        self._mirror.apply_now(effects)
        entry = _Entry(tuple(effects))
        self.writer.add(entry)
        await self._until_kept(entry)

    async def lease_probe(self, domains: Sequence[str], holder: str, now: float, until: float) -> bool:
        """Take the probe of every one of these half-open domains for ``holder``, or of none.

        Decided in the database, so at most one process has it. A database in trouble is not waited for: then it is
        decided here, and other processes may come to the same.
        """
        leases = [_Lease(domain, holder, now, until) for domain in dict.fromkeys(domains)]
        if not self._free(leases):
            return False
        entry = _Entry(leases, all_or_none=True, shown=False)
        self.writer.add(entry)
        try:
            await self._until_kept(entry)
        except BaseException:
            self._abandon(entry)
            raise
        if entry.kept.is_set():
            return entry.granted
        if not self._free(leases):
            self._abandon(entry)
            return False
        entry.shown = True
        self._show(leases)
        return True

    async def return_probe(self, domains: Sequence[str], holder: str) -> None:
        """Give back what ``holder`` still holds of these; nothing else changes."""
        held = [_Return(domain, holder) for domain in domains if self._held(domain).probe_holder == holder]
        if held:
            self._show(held)
            # Not waited for: it is called where a run ends, and what is not written in time expires.
            self.writer.add(_Entry(held))

    async def refresh(self, connection: AsyncConnection) -> None:
        """Learn what changed in the database since the last time."""
        # Between the commit of a batch and the moment its effects are no longer pending, they would count twice.
        async with self._file.one_writer:
            rows = _rows(await connection.execute(_NEWER, {"seen": self._seen_seq}))
            self._absorb(rows)
            self._seen_seq = max((row.seq for row in rows.values()), default=self._seen_seq)

    # -- in memory -----------------------------------------------------------------------------------------------

    def _held(self, domain: str) -> Standing:
        return self._mirror.standing(domain) or CLEAN

    def _free(self, leases: Iterable[_Lease]) -> bool:
        return all(leased(self._held(each.domain), each.holder, each.now, each.until) is not None for each in leases)

    def _show(self, changes: Iterable[_Change]) -> None:
        for change in changes:
            self._mirror.put(change.domain, _after(self._held(change.domain), change))

    def _abandon(self, entry: _Entry) -> None:
        if entry.kept.is_set():
            self._give_back(entry)
        elif not self.writer.withdraw(entry):
            entry.abandoned = True

    def _give_back(self, entry: _Entry) -> None:
        if entry.granted:
            returns = [_Return(each.domain, each.holder) for each in entry.changes if isinstance(each, _Lease)]
            self._show(returns)
            # Before what already waits: that may be somebody else who asks for the same probe.
            self.writer.add(_Entry(returns), first=True)

    async def _until_kept(self, entry: _Entry) -> None:
        # A database that is known to be in trouble is not waited for: that would cost every run the same again.
        if self.writer.trouble is None and not self.writer.closed:
            with anyio.move_on_after(self._commit_wait_seconds):
                await entry.kept.wait()

    def _absorb(self, rows: Mapping[str, _Row]) -> None:
        """Let these rows be what is known of the database, under the changes that it does not know yet."""
        news = {domain: row for domain, row in rows.items() if row.seq >= self._seen.get(domain, _NO_ROW).seq}
        self._seen |= news
        visible = {domain: row.standing for domain, row in news.items()}
        for entry in self.writer:
            for change in entry.changes if entry.shown else ():
                if change.domain in visible:
                    visible[change.domain] = _after(visible[change.domain], change)
        for domain, standing in visible.items():
            self._mirror.put(domain, standing)

    # -- in the database -----------------------------------------------------------------------------------------

    async def _commit(self, batch: Sequence[_Entry]) -> None:
        domains = sorted({change.domain for entry in batch for change in entry.changes})
        async with self._file.write(exclusive=True) as connection:
            rows = _rows(await connection.execute(_OF_DOMAINS, {"domains": domains}))
            before = {domain: rows.get(domain, _NO_ROW).standing for domain in domains}
            reduced = _reduced(before, batch)
            changes = {domain: after for domain, after in reduced.standings.items() if after != before[domain]}
            if changes:
                seq = (await connection.execute(_LAST_SEQ)).scalar_one() + 1
                await _write(connection, seq, changes, rows)
                rows |= {domain: _Row(seq, standing) for domain, standing in changes.items()}
            if reduced.audited:
                await connection.execute(insert(audit), reduced.audited)
        # No await from here on: nobody may see an effect both in a row and pending, or in neither.
        self.writer.settle(batch)
        self._absorb(rows)
        for entry in batch:
            entry.granted = entry not in reduced.refused
            entry.kept.set()
            if entry.abandoned:
                self._give_back(entry)


def _after(standing: Standing, change: _Change) -> Standing:
    match change:
        case _Lease(_, holder, now, until):
            return leased(standing, holder, now, until) or standing
        case _Return(_, holder):
            return returned(standing, holder)
        case _:
            return changed(standing, change)


def _reduced(before: Mapping[str, Standing], batch: Iterable[_Entry]) -> _Reduced:
    reduced = _Reduced(dict(before))
    now = reduced.standings
    for entry in batch:
        if entry.all_or_none and any(
            leased(now[each.domain], each.holder, each.now, each.until) is None
            for each in entry.changes
            if isinstance(each, _Lease)
        ):
            reduced.refused.add(entry)
            continue
        for change in entry.changes:
            after = _after(now[change.domain], change)
            if after != now[change.domain]:
                reduced.audited += _audited(change, rechecked=now[change.domain].disabled and not after.disabled)
            now[change.domain] = after
    return reduced


def _audited(change: _Change, *, rechecked: bool = False) -> list[dict[str, object]]:
    """The line of the audit for what somebody did on purpose: an operator, or a policy that disables and enables."""
    match change:
        case Succeeded(domain, at) if rechecked:
            return [{"at": at, "who": "policy", "what": "enable", "target": domain, "why": "its recheck succeeded"}]
        case Enable(domain, at, by) | Restore(domain, at, by):
            why = ""
        case Disable(domain, at, by, why):
            pass
        case Cool(domain, at, _, _, why, by) if by:
            pass
        case _:
            return []
    return [{"at": at, "who": by, "what": type(change).__name__.lower(), "target": domain, "why": why}]


def _is_an_operators_or_disables(entry: _Entry) -> bool:
    return any(_audited(change) for change in entry.changes)


def _rows(found: Iterable[Any]) -> dict[str, _Row]:
    return {domain: _Row(seq, Standing(*values)) for domain, seq, *values in found}


async def _write(
    connection: AsyncConnection, seq: int, changes: Mapping[str, Standing], rows: Mapping[str, _Row]
) -> None:
    # A domain that is clean again keeps its row: without it, other processes would not learn of it.
    old = [{"key": domain, "seq": seq, **asdict(after)} for domain, after in changes.items() if domain in rows]
    new = [{"domain": domain, "seq": seq, **asdict(after)} for domain, after in changes.items() if domain not in rows]
    if old:
        await connection.execute(_UPDATE, old)
    if new:
        await connection.execute(_INSERT, new)
