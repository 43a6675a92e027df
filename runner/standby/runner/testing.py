"""Fakes for tests of what embeds a runner: a scripted client, a clock, and an asyncio loop without waiting.

The time of a test is virtual: on trio bring `trio.testing.MockClock(autojump_threshold=0)`, on asyncio a `VirtualLoop`,
and give the runner a `VirtualClock`. Hours then pass in milliseconds, and every time is exact. Never use real sockets
under virtual time: the loop would jump ahead while the other side is still at work.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import anyio
import orjson

from standby.clients import ClientError, Request, Response, Usage

__all__ = ["Fail", "Outcome", "ScriptedClient", "Slow", "VirtualClock", "VirtualLoop", "answer"]

EPOCH: Final = 1_700_000_000.0


class VirtualClock:
    """A clock whose epoch follows the event loop's own clock, from a given start.

    Args:
        epoch: What the seconds since the epoch are when the event loop's clock says 0.
    """

    def __init__(self, epoch: float = EPOCH) -> None:
        self._epoch = epoch

    def steady(self) -> float:
        """Seconds on the event loop's clock."""
        return anyio.current_time()

    def epoch(self) -> float:
        """Seconds since the epoch."""
        return self._epoch + anyio.current_time()


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that, where it would wait, lets the loop's time pass instead."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.passed_seconds += timeout
        elif not ready and timeout is None:
            return super().select(None)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose time jumps to the next timer as soon as nothing else is to be done."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds that have passed since the loop was made, all of them virtual."""
        return self._jumping.passed_seconds


class Fail(Exception):
    """Not raised: an outcome of a script that is a failed call. Takes what `ClientError` takes."""

    def __init__(self, code: str, message: str = "", **fields: Any) -> None:
        self.error = ClientError(code, message, **fields)
        super().__init__(str(self.error))


class Slow:
    """An outcome that comes after some seconds."""

    def __init__(self, seconds: float, outcome: Outcome | None = None) -> None:
        self.seconds = seconds
        self.outcome = outcome


Outcome = Response | Exception | Slow | None
"""What a scripted call comes to: an answer, an exception to raise, either after some seconds; `None` is `answer()`."""


def answer(text: str = "ok", *, tokens: int = 10) -> Response:
    """A complete chat answer that says ``text``."""
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens},
    }
    headers = {"content-type": "application/json"}
    return Response(200, headers, orjson.dumps(data), data, Usage(0, tokens))


class ScriptedClient:
    """A provider client that does what its script says, one outcome a call; the last one is repeated.

    Attributes:
        calls: Every request that was sent, in order.
        in_flight: Calls that are under way now.
    """

    def __init__(self, script: Iterable[Outcome] | Callable[[Request], Outcome] = ()) -> None:
        self.calls: list[Request] = []
        self.in_flight = 0
        self.closed = False
        self._say = script if callable(script) else _repeating_the_last(script)

    async def send(self, request: Request) -> Response:
        """Do what comes next in the script."""
        self.calls.append(request)
        self.in_flight += 1
        try:
            return await self._come_to(self._say(request))
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    async def _come_to(self, outcome: Outcome) -> Response:
        if isinstance(outcome, Slow):
            await anyio.sleep(outcome.seconds)
            return await self._come_to(outcome.outcome)
        if isinstance(outcome, Fail):
            raise outcome.error
        if isinstance(outcome, Exception):
            raise outcome
        return outcome or answer()


def _repeating_the_last(script: Iterable[Outcome]) -> Callable[[Request], Outcome]:
    outcomes: Iterator[Outcome] = iter(script)
    last: list[Outcome] = [None]

    def say(_: Request) -> Outcome:
        last[0] = next(outcomes, last[0])
        return last[0]

    return say
