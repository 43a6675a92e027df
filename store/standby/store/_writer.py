"""Getting things written, in order, in batches, however long it takes, while nobody waits.

What is handed in stays pending until a commit kept it. A database in trouble is tried again, at growing intervals, for
as long as it takes; meanwhile the oldest makes room when more is pending than the bound, unless it is precious.
Something that no database would take is found by committing one at a time, and dropped with an error in the log: it
must not block the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential, wait_random

from ._engine import Engine, log

Item = TypeVar("Item")


class Writer(Generic[Item]):
    """The pending items of one part of a store, and the task that commits them.

    Attributes:
        dropped: How many items were given up, for want of room or because no database would take them.
    """

    def __init__(
        self,
        part: str,
        engine: Engine,
        commit: Callable[[Sequence[Item]], Awaitable[None]],
        *,
        max_pending: int,
        batch_size: int,
        linger_seconds: float = 0.0,
        precious: Callable[[Item], bool] = lambda _: False,
    ) -> None:
        """Items are told apart by identity. ``commit`` keeps a batch, and calls `settle` in the step that follows.

        ``precious`` items never make room: they wait, above the bound if need be. ``linger_seconds`` lets a batch fill
        before it is committed.
        """
        self.dropped = 0
        self._part = part
        self._engine = engine
        self._commit = commit
        self._max_pending = max_pending
        self._batch_size = self._next_size = batch_size
        self._linger_seconds = linger_seconds
        self._precious = precious
        self._pending: dict[Item, None] = {}
        self._in_flight: dict[Item, None] = {}
        self._tried: Sequence[Item] = ()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._patient = AsyncRetrying(
            retry=retry_if_exception(engine.is_trouble),
            stop=lambda _: self.closed,
            wait=wait_exponential(multiplier=0.05, max=2.0) + wait_random(0, 0.05),
            sleep=self._pause,
            before_sleep=self._say_trouble,
            reraise=True,
        )

    @property
    def closed(self) -> bool:
        """Nothing that is handed in now is written."""
        return self._closing.is_set()

    @property
    def pending(self) -> int:
        """How many items wait to be written."""
        return len(self._pending)

    @property
    def trouble(self) -> str | None:
        """Why nothing is written at present."""
        return self._engine.trouble(self._part)

    def __iter__(self) -> Iterator[Item]:
        """The pending items, oldest first."""
        return iter(self._pending)

    def __reversed__(self) -> Iterator[Item]:
        """The pending items, newest first."""
        return reversed(self._pending)

    def add(self, item: Item, *, first: bool = False) -> None:
        """Hand in one item, to be written last or next. Never waits; where there is no room, the oldest goes."""
        if self.closed:
            return
        if first:
            self._pending = {item: None, **self._pending}
        else:
            self._pending[item] = None
        if len(self._pending) > self._max_pending:
            self._make_room()
        self._wake.set()

    def withdraw(self, item: Item) -> bool:
        """Take an item back; `False` where that is too late."""
        if item in self._in_flight or item not in self._pending:
            return False
        del self._pending[item]
        return True

    def settle(self, batch: Sequence[Item]) -> None:
        """Forget what is kept."""
        for item in batch:
            self._pending.pop(item, None)

    def start(self) -> None:
        """Begin to write what waits; a part that was in trouble until now and has nothing to write leaves it."""
        self._wake.set()
        self._task = asyncio.create_task(self._write(), name=f"standby.store {self._part} of {self._engine.name}")

    async def close(self) -> None:
        """Write what is pending, with one last try where the database is in trouble."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._pending:
            # A try that was under way when the store was closed was not the last one.
            await self._write_all()
        if self._pending:
            log.error(
                "%s: closed with %d changes of its %s unwritten", self._engine.name, len(self._pending), self._part
            )

    def _make_room(self) -> None:
        free = (item for item in self._pending if item not in self._in_flight and not self._precious(item))
        victim = next(free, None)
        if victim is not None:
            del self._pending[victim]
            self.dropped += 1

    async def _write(self) -> None:
        try:
            while self._pending or not self.closed:
                await self._wake.wait()
                self._wake.clear()
                await self._pause(self._linger_seconds)
                if not await self._write_all():
                    return
        except Exception as error:  # noqa: BLE001 - said with its trace
            # A mistake of ours, then. It must not look as if all was written.
            log.exception("writing the %s of %s has ended", self._part, self._engine.name)
            self._engine.enter_trouble(self._part, error)

    async def _write_all(self) -> bool:
        """Write until nothing is pending; `False` where the store is closed while the database is in trouble."""
        while self._pending:
            try:
                await self._patient(self._try)
            except Exception as error:  # noqa: BLE001 - whatever it is, what comes after must be written
                if self._engine.is_trouble(error):
                    return False
                self._refused(error)
        self._engine.leave_trouble(self._part)
        return True

    async def _try(self) -> None:
        self._tried = list(islice(self._pending, self._next_size))
        self._in_flight = dict.fromkeys(self._tried)
        try:
            await self._commit(self._tried)
        finally:
            self._in_flight = {}
        self._next_size = min(self._batch_size, self._next_size * 2)

    def _refused(self, error: Exception) -> None:
        if len(self._tried) > 1:
            self._next_size = 1
            return
        self.settle(self._tried)
        self.dropped += len(self._tried)
        log.error("%s cannot hold a change of its %s, which is dropped: %s", self._engine.name, self._part, error)

    def _say_trouble(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            self._engine.enter_trouble(self._part, error)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)
