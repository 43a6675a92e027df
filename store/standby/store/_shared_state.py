"""Run-time state that a restart remembers and other processes share, read from memory and written behind.

Three layers, each one the layer below and something on top of it:

- the engine (a database, or Valkey): a row a domain, changed only by `changed()` on what the row was, so that whatever
  several processes do at once comes to what one process would have made of it, one after the other;
- what this process last saw of the engine;
- the mirror, which every read is answered from: what was last seen, with the effects on top that are not committed yet.

An effect is therefore visible here at once, and only then written; and what others commit is laid under it, never over.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from ._audit import Audited, audited, wanted
from ._engine import LIMITS, POLL, Engine
from ._memory import MemoryState
from ._standing import CLEAN, Effect, Standing, Succeeded, changed, leased, returned
from ._writer import Writer

PART = "state"


@dataclass(frozen=True, slots=True)
class Lease:
    domain: str
    holder: str
    now: float
    until: float


@dataclass(frozen=True, slots=True)
class Return:
    domain: str
    holder: str


Change = Effect | Lease | Return


@dataclass(slots=True, eq=False)
class Entry:
    """Changes that are committed together, and what became of them.

    Attributes:
        all_or_none: They are leases, of which all are had or none.
        shown: The mirror shows them already.
        kept: Set when they are committed.
        granted: Whether the leases were had.
        abandoned: Nobody wants the leases any more.
    """

    changes: Sequence[Change]
    all_or_none: bool = False
    shown: bool = True
    kept: asyncio.Event = field(default_factory=asyncio.Event)
    granted: bool = False
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A domain's standing as it is in the database, and the commit that made it so."""

    seq: int
    standing: Standing


NO_ROW = Row(0, CLEAN)


@dataclass(slots=True)
class Reduced:
    """What a batch makes of the rows it was laid on."""

    standings: dict[str, Standing]
    audited: list[Audited] = field(default_factory=list[Audited])
    refused: set[Entry] = field(default_factory=set[Entry])


class SharedState(ABC):
    """Run-time state that an engine keeps: it survives this process, and is shared with others."""

    def __init__(self, engine: Engine, *, commit_wait_seconds: float, max_pending: int) -> None:
        self._engine = engine
        self._commit_wait_seconds = commit_wait_seconds
        self._mirror = MemoryState()
        self._seen: dict[str, Row] = {}
        self.writer: Writer[Entry] = Writer(
            PART, engine, self._commit, max_pending=max_pending, batch_size=256, precious=_is_an_operators_or_disables
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
            return f"{self._engine.name} is closed"
        return self._engine.trouble(PART, POLL, LIMITS)

    @property
    def trouble_since(self) -> float | None:
        """Since when, in seconds since the epoch."""
        return self._engine.since(PART, POLL, LIMITS)

    @property
    def pending(self) -> int:
        """How many changes wait to be written."""
        return self.writer.pending

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
        """Make the effects true: here at once, and in the engine within a bounded time, if that can be had.

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
        entry = Entry(tuple(effects))
        self.writer.add(entry)
        await self._until_kept(entry)

    async def lease_probe(self, domains: Sequence[str], holder: str, now: float, until: float) -> bool:
        """Take the probe of every one of these half-open domains for ``holder``, or of none.

        Decided in the engine, so at most one process has it. An engine in trouble is not waited for: then it is decided
        here, and other processes may come to the same.
        """
        leases = [Lease(domain, holder, now, until) for domain in dict.fromkeys(domains)]
        if not self._free(leases):
            return False
        entry = Entry(leases, all_or_none=True, shown=False)
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
        held = [Return(domain, holder) for domain in domains if self._held(domain).probe_holder == holder]
        if held:
            self._show(held)
            # Not waited for: it is called where a run ends, and what is not written in time expires.
            self.writer.add(Entry(held))

    def forget_numbers(self) -> None:
        """The engine has lost its data, and numbers what comes anew: what is known stays known, under no number."""
        self._seen = {domain: Row(0, row.standing) for domain, row in self._seen.items()}

    async def learn(self, rows: Mapping[str, Row]) -> None:
        """Let these rows be what is known of the engine."""
        # Between the commit of a batch and the moment its effects are no longer pending, they would count twice.
        async with self._engine.one_writer:
            self._absorb(rows)

    # -- in memory -----------------------------------------------------------------------------------------------

    def _held(self, domain: str) -> Standing:
        return self._mirror.standing(domain) or CLEAN

    def _free(self, leases: Iterable[Lease]) -> bool:
        return all(leased(self._held(each.domain), each.holder, each.now, each.until) is not None for each in leases)

    def _show(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._mirror.put(change.domain, after(self._held(change.domain), change))

    def _abandon(self, entry: Entry) -> None:
        if entry.kept.is_set():
            self._give_back(entry)
        else:
            self.writer.withdraw(entry)
            entry.abandoned = True  # it may be on its way, or have been made though the answer was lost

    def _give_back(self, entry: Entry) -> None:
        if entry.granted:
            returns = [Return(each.domain, each.holder) for each in entry.changes if isinstance(each, Lease)]
            self._show(returns)
            # Before what already waits: that may be somebody else who asks for the same probe.
            self.writer.add(Entry(returns), first=True)

    async def _until_kept(self, entry: Entry) -> None:
        # An engine that is known to be in trouble is not waited for: that would cost every run the same again.
        if self.writer.trouble is None and not self.writer.closed:
            with anyio.move_on_after(self._commit_wait_seconds):
                await entry.kept.wait()

    def _absorb(self, rows: Mapping[str, Row]) -> None:
        """Let these rows be what is known of the engine, under the changes that it does not know yet."""
        news = {domain: row for domain, row in rows.items() if row.seq >= self._seen.get(domain, NO_ROW).seq}
        self._seen |= news
        visible = {domain: row.standing for domain, row in news.items()}
        for entry in self.writer:
            for change in entry.changes if entry.shown else ():
                if change.domain in visible:
                    visible[change.domain] = after(visible[change.domain], change)
        for domain, standing in visible.items():
            self._mirror.put(domain, standing)

    # -- in the engine -------------------------------------------------------------------------------------------

    @abstractmethod
    async def _commit(self, batch: Sequence[Entry]) -> None:
        """Keep a batch, and call `_committed` in the step that follows."""

    def _committed(self, batch: Sequence[Entry], rows: Mapping[str, Row], refused: Collection[Entry]) -> None:
        """A batch is kept: nobody may see an effect both in a row and pending, or in neither, so nothing awaits."""
        self.writer.settle(batch)
        self._absorb(rows)
        for entry in batch:
            entry.granted = entry not in refused
            entry.kept.set()
            if entry.abandoned:
                self._give_back(entry)


def after(standing: Standing, change: Change) -> Standing:
    match change:
        case Lease(_, holder, now, until):
            return leased(standing, holder, now, until) or standing
        case Return(_, holder):
            return returned(standing, holder)
        case _:
            return changed(standing, change)


def reduced(before: Mapping[str, Standing], batch: Iterable[Entry]) -> Reduced:
    done = Reduced(dict(before))
    now = done.standings
    for entry in batch:
        if entry.all_or_none and any(
            leased(now[each.domain], each.holder, each.now, each.until) is None
            for each in entry.changes
            if isinstance(each, Lease)
        ):
            done.refused.add(entry)
            continue
        for change in entry.changes:
            was = now[change.domain]
            now[change.domain] = after(was, change)
            if not isinstance(change, Lease | Return):
                done.audited += audited(change, was, now[change.domain])
    return done


def _is_an_operators_or_disables(entry: Entry) -> bool:
    return any(wanted(change) for change in entry.changes)
