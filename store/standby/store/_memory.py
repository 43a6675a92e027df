"""The store that needs nothing: everything in this process's memory, gone with it.

Nothing here awaits between a check and the act that follows from it, so no lock is needed.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from ._audit import Audit, Audited, audited
from ._clients import CLIENTS
from ._findings import Finding, InvalidConfig
from ._protocols import Snapshot
from ._standing import CLEAN, Effect, Standing, changed, leased, returned

if TYPE_CHECKING:
    from ._document import Document


class MemoryCatalog:
    """A catalog that is what it was last given."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._changed = anyio.Event()

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        environ: Mapping[str, str] | None = None,
        clients: Collection[str] = CLIENTS,
    ) -> Self:
        """The catalog that the document in a file describes; `load` tells what it takes and raises."""
        from ._config import load  # noqa: PLC0415 - without a document nobody waits for what reads them

        return cls(_given(load(path, environ=environ, clients=clients), os.fspath(path)))

    @classmethod
    def from_mapping(
        cls, raw: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, clients: Collection[str] = CLIENTS
    ) -> Self:
        """The catalog that a document describes; `parse` tells what it takes and raises."""
        from ._config import parse  # noqa: PLC0415 - as above

        return cls(_given(parse(raw, environ=environ, clients=clients), "configuration"))

    def snapshot(self) -> Snapshot:
        """The newest version."""
        return self._snapshot

    def replace(self, snapshot: Snapshot) -> Snapshot:
        """Make ``snapshot`` the newest version, numbered one above the present one; runs in flight keep theirs."""
        self._snapshot = replace(snapshot, version=self._snapshot.version + 1)
        event, self._changed = self._changed, anyio.Event()
        event.set()
        return self._snapshot

    async def changed(self, version: int) -> Snapshot:
        """Wait until the newest version is not ``version``, and return it."""
        while self._snapshot.version == version:
            await self._changed.wait()
        return self._snapshot


def _given(document: Document, where: str) -> Snapshot:
    if not document.models:
        raise InvalidConfig([Finding("models", "nothing", "is required: memory has no other catalog")], where)
    return document.snapshot()


class MemoryState:
    """Run-time state in a dict: one `Standing` for each domain that something is held against.

    Args:
        audit: Is told what somebody did on purpose.
    """

    trouble: str | None = None

    def __init__(self, audit: Audit | None = None) -> None:
        self._audit = audit
        self._standings: dict[str, Standing] = {}
        self._generation = 0
        self._changed = anyio.Event()

    @property
    def generation(self) -> int:
        """Grows with every change."""
        return self._generation

    def standing(self, domain: str) -> Standing | None:
        """What is known of ``domain``; `None` where nothing is held against it."""
        return self._standings.get(domain)

    def standings(self) -> Mapping[str, Standing]:
        """Every domain that something is known of."""
        return dict(self._standings)

    async def apply(self, effects: Sequence[Effect]) -> None:
        """Make the effects true."""
        self.apply_now(effects)

    def apply_now(self, effects: Sequence[Effect]) -> None:
        """`apply`, for callers that cannot await."""
        for effect in effects:
            before = self._standings.get(effect.domain, CLEAN)
            after = changed(before, effect)
            if after is before:
                continue
            self.put(effect.domain, after)
            if self._audit is not None and (lines := audited(effect, before, after)):
                self._audit(lines)

    def put(self, domain: str, standing: Standing) -> None:
        """Let ``standing`` be what is known of ``domain``."""
        if standing == self._standings.get(domain, CLEAN):
            return
        if standing == CLEAN:
            del self._standings[domain]
        else:
            self._standings[domain] = standing
        self._generation += 1
        event, self._changed = self._changed, anyio.Event()
        event.set()

    async def lease_probe(self, domains: Sequence[str], holder: str, now: float, until: float) -> bool:
        """Take the probe of every one of these half-open domains for ``holder``, or of none."""
        taken: dict[str, Standing] = {}
        for domain in domains:
            standing = leased(self._standings.get(domain, CLEAN), holder, now, until)
            if standing is None:
                return False
            taken[domain] = standing
        for domain, standing in taken.items():
            self.put(domain, standing)
        return True

    async def return_probe(self, domains: Sequence[str], holder: str) -> None:
        """Give back what ``holder`` still holds of these."""
        for domain in domains:
            self.put(domain, returned(self._standings.get(domain, CLEAN), holder))

    async def changed(self, generation: int) -> None:
        """Wait until `generation` is not ``generation``."""
        while self._generation == generation:
            await self._changed.wait()


MAX_AUDITED: Final = 10_000
"""Lines of the audit that are remembered: what people do in many days."""


class MemoryHistory:
    """The last ``capacity`` records, and the last `MAX_AUDITED` lines of the audit."""

    def __init__(self, capacity: int = 1000) -> None:
        self._capacity = capacity
        self._records: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._audit: deque[Audited] = deque(maxlen=MAX_AUDITED)

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep one record; the oldest makes room."""
        self._records[record["run_id"]] = record
        self._records.move_to_end(record["run_id"])
        while len(self._records) > self._capacity:
            self._records.popitem(last=False)

    async def get(self, run_id: str) -> Mapping[str, Any] | None:
        """The record of one run; `None` where it is not, or no longer, known."""
        return self._records.get(run_id)

    async def newest(self, limit: int = 100, before: str | None = None) -> Sequence[Mapping[str, Any]]:
        """The newest records first, at most ``limit``; only those older than the run ``before``, where given."""
        records = iter(reversed(self._records.values()))
        if before is not None:
            for record in records:
                if record["run_id"] == before:
                    break
        return list(islice(records, limit))

    def note(self, lines: Sequence[Audited]) -> None:
        """Keep lines of the audit."""
        self._audit.extend(lines)

    async def audit(self, limit: int = 100, until: float | None = None) -> Sequence[Audited]:
        """The newest lines of the audit first, at most ``limit``; none that is later than ``until``, where given."""
        found = (line for line in reversed(self._audit) if until is None or line.at <= until)
        return list(islice(found, max(0, limit)))
