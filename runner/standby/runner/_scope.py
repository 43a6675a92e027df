"""A cancel scope with a deadline, at a fifth of what anyio's costs: every try has one, and every read of a stream.

What anyio's does more is not needed here: it tells what runs inside of it of the deadline, and it cancels without end
what goes on in spite of it. On asyncio a task is cancelled as `asyncio.timeout` does it, so that the scopes of anyio
and the time-outs of asyncio around and inside of it keep their meaning. On trio it is trio's own.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Final, Protocol, Self

import anyio

from ._timer import on_trio

AGAIN_SECONDS: Final = 3.0
"""What is still inside so long after it was cancelled is cancelled again; to close a connection takes less."""


class Scope(Protocol):
    """What runs inside of it is cancelled at its deadline, or by `cancel`.

    Attributes:
        cancel_called: Whether it was.
        cancelled_caught: Whether that is what ended it.
    """

    cancel_called: bool
    cancelled_caught: bool

    def within(self, seconds: float) -> Scope:
        """The same once more, with another deadline: so many seconds from now. Only after it was left."""
        ...

    def cancel(self) -> None:
        """End what runs inside of it."""
        ...

    def close(self) -> None:
        """It is not entered any more."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool: ...


def scope_of(seconds: float) -> Scope:
    """A scope with a deadline so many seconds from now; infinity for none. It is closed when it is left."""
    return _OnTrio(seconds) if on_trio() else _OnAsyncio(seconds, kept=False)


def kept_scope() -> Scope:
    """A scope that is entered again and again, and closed in the end: each time costs next to nothing."""
    return _OnTrio(math.inf) if on_trio() else _OnAsyncio(math.inf, kept=True)


class _OnAsyncio:
    __slots__ = (
        "_at",
        "_cancelled",
        "_cancelling",
        "_handle",
        "_kept",
        "_loop",
        "_rings_at",
        "_task",
        "cancel_called",
        "cancelled_caught",
    )

    def __init__(self, seconds: float, *, kept: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + seconds
        self._kept = kept
        self._handle: asyncio.Handle | None = None
        self._rings_at = math.inf
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cancelled = 0
        self.cancel_called = False
        self.cancelled_caught = False

    def within(self, seconds: float) -> Self:
        self._at = self._loop.time() + seconds
        self.cancel_called = self.cancelled_caught = False
        if self._at < self._rings_at:
            self.close()
        return self

    def __enter__(self) -> Self:
        self._task = task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._cancelling, self._cancelled = task.cancelling(), 0
        if self.cancel_called:
            self._deliver()
        elif self._handle is None and self._at < math.inf:
            self._ring_at(self._at)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if not self._kept or self.cancel_called:
            self.close()
        while self._cancelled and task is not None:
            self._cancelled -= 1
            # Where somebody else cancelled the task as well, that is what the exception is of.
            self.cancelled_caught = task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        return self.cancelled_caught

    def cancel(self) -> None:
        if not self.cancel_called:
            self.cancel_called = True
            self.close()
            self._deliver()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle, self._rings_at = None, math.inf

    def _ring_at(self, at: float) -> None:
        self._rings_at = at
        self._handle = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._handle, self._rings_at = None, math.inf
        if self._task is None:
            return  # whoever comes in sets it anew
        if self._loop.time() < self._at:
            self._ring_at(self._at)
        else:
            self.cancel_called = True
            self._deliver()

    def _deliver(self) -> None:
        """Cancel the task, unless what it waits for has come, and it is about to go on."""
        if self._task is None:
            return
        awaited: object = getattr(self._task, "_fut_waiter", None)
        if isinstance(awaited, asyncio.Future) and awaited.done():
            self._handle = self._loop.call_soon(self._deliver)
        else:
            self._cancelled += 1
            self._task.cancel()
            self._handle = self._loop.call_later(AGAIN_SECONDS, self._deliver)


class _OnTrio:
    __slots__ = ("_scope", "cancel_called", "cancelled_caught")

    def __init__(self, seconds: float) -> None:
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        self.cancel_called = False
        self.cancelled_caught = False

    def within(self, seconds: float) -> Self:
        self.__init__(seconds)  # type: ignore[misc]
        return self

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        caught = bool(self._scope.__exit__(kind, error, trace))
        self.cancel_called, self.cancelled_caught = self._scope.cancel_called, self._scope.cancelled_caught
        return caught

    def cancel(self) -> None:
        self.cancel_called = True
        self._scope.cancel()

    def close(self) -> None:
        pass
