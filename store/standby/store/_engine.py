"""What every engine that a store lives in has: one writer, and its troubles in words."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Final

import anyio

from ._errors import StoreError

POLL: Final = "poll"
"""The part of a store that follows what other processes change."""
LIMITS: Final = "limits"
"""The part of a store that counts for all processes."""

log = logging.getLogger("standby.store")


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``, which must be bounded, and be cancelled only then."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as request:
                cancelled = None if task.cancelled() else request
    task.result()
    if cancelled is not None:
        raise cancelled


class Engine(ABC):
    """A database, or a server of another kind, that the parts of a store share.

    Attributes:
        name: The engine as it is shown to people; no password is in it.
        one_writer: Held while this process writes: waiting here is fair and short, waiting in an engine is neither.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.one_writer = asyncio.Lock()
        self._troubles: dict[str, str] = {}
        self._since: dict[str, float] = {}

    @abstractmethod
    def is_trouble(self, error: BaseException) -> bool:
        """Whether the engine is at fault, so that trying later may do; `False` where the data is."""

    @abstractmethod
    def what_is_wrong(self, error: BaseException) -> str:
        """In words that follow the engine's name."""

    def trouble(self, *parts: str) -> str | None:
        """What is wrong with the engine for one of these parts of the store; `None` where nothing is."""
        return next((self._troubles[part] for part in parts if part in self._troubles), None)

    def since(self, *parts: str) -> float | None:
        """When the trouble with one of these parts began, in seconds since the epoch; `None` where there is none."""
        return min((self._since[part] for part in parts if part in self._troubles), default=None)

    def enter_trouble(self, part: str, error: BaseException) -> None:
        """Remember that ``part`` cannot use the engine. The first part in trouble says so in the log."""
        why = self.words(error)
        if not self._troubles:
            log.warning("%s; runs go on with what is in memory, and it is written once that is possible again", why)
        self._troubles[part] = why
        self._since.setdefault(part, time.time())

    def leave_trouble(self, part: str) -> None:
        """Remember that ``part`` can use the engine. The last part that was in trouble says so in the log."""
        self._since.pop(part, None)
        if self._troubles.pop(part, None) is not None and not self._troubles:
            log.info("%s is in use again; everything that waited is written", self.name)

    def words(self, error: BaseException) -> str:
        """What is wrong, with the name of the engine."""
        if isinstance(error, StoreError):
            return str(error)
        return f"{self.name} {self.what_is_wrong(error)}"
