"""SIGTERM, answered as Ctrl-C is: everything is closed, and nothing is left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM came."""


class Sigterm:
    """What SIGTERM does: it raises `Terminated`; an event loop that is running is left in order first."""

    def __init__(self) -> None:
        self._do: Callable[[], object] = _raise

    @contextmanager
    def handled(self) -> Generator[None]:
        """Handle it in this context. Signals are the main thread's: in another one nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    async def cancels(self, perform: Callable[[], Awaitable[int]]) -> int:
        """Run ``perform``; cancel it when SIGTERM comes, and raise `Terminated` when it has ended."""
        import asyncio  # noqa: PLC0415 - what is needed takes long to import, and is needed only here

        import anyio  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:
            self._do = lambda: loop.call_soon_threadsafe(scope.cancel)
            try:
                return await perform()
            finally:
                self._do = _nothing  # it is ending as it is
        raise Terminated

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what a handler is told
        do, self._do = self._do, _nothing
        do()


def _raise() -> None:
    raise Terminated


def _nothing() -> None:
    pass
