"""Fakes for tests of what embeds a runner: a scripted client, a script of faults, a clock, a loop without waiting.

The time of a test is virtual: on trio bring `trio.testing.MockClock(autojump_threshold=0)`, on asyncio a `VirtualLoop`,
and give the runner a `VirtualClock`. Hours then pass in milliseconds, and every time is exact. Never use real sockets
under virtual time: the loop would jump ahead while the other side is still at work.

::

    client = ScriptedClient(FaultScript((60, Fail("server_error", status=500, retryable=True)), (120, answer())))

    async def outage():
        async with Runner(catalog, clients={"fake": lambda _: client}, clock=VirtualClock()) as runner:
            await anyio.sleep(61)
            ...

    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        loop.run(outage())

`docs/testing.md` goes through it, and `examples/test_failover.py` is a whole test file. `Runner.held` says what runs
hold: nothing, after each test.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
import orjson

from standby.clients import Block, ClientError, Request, Response, Usage

__all__ = [
    "EPOCH",
    "Fail",
    "FaultScript",
    "Outcome",
    "ScriptedClient",
    "Slow",
    "Streamed",
    "VirtualClock",
    "VirtualLoop",
    "answer",
]

EPOCH: Final = 1_700_000_000.0
"""What a `VirtualClock` says at the start, in seconds since the epoch."""


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

    def set(self, epoch: float) -> None:
        """Let it be ``epoch`` now, as when somebody sets the machine's clock."""
        self._epoch = epoch - anyio.current_time()


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


class Streamed:
    """An outcome that is a stream, complete at the end of its steps.

    Args:
        steps: A text is an event with that content; an empty one has none. A number is a wait, in seconds. An exception
            is raised.
        tokens: What the provider says it counted.
    """

    def __init__(self, *steps: str | float | Exception, tokens: int = 10) -> None:
        self.steps = steps
        self.tokens = tokens


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


Outcome = Response | Streamed | Exception | Slow | None
"""What a scripted call comes to: an answer, a stream, an exception to raise, any of them after some seconds. `None` is
`answer()`, and for a call that asks for a stream one that says ``ok``."""


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


Script = Callable[[Request], Outcome]


class FaultScript:
    """What a provider does, by the time at which it is asked: it is well, goes down, is slow, comes back.

    Args:
        phases: From which second on what comes of a call; a function is asked for each. Before the first phase calls
            are answered. The seconds are those of the event loop's clock, so they count from the start of the test
            under virtual time.
    """

    def __init__(self, *phases: tuple[float, Outcome | Script]) -> None:
        if any(later[0] < earlier[0] for earlier, later in itertools.pairwise(phases)):
            raise ValueError("the phases must be in the order of time")
        self._phases = phases

    def __call__(self, request: Request) -> Outcome:
        """What comes of a call now."""
        now = anyio.current_time()
        said = next((outcome for since, outcome in reversed(self._phases) if since <= now), None)
        return said(request) if callable(said) else said


class ScriptedClient:
    """A provider client that does what its script says, one outcome a call; the last one is repeated.

    Attributes:
        calls: Every request that was sent, in order.
        in_flight: Calls that are under way now.
    """

    def __init__(self, script: Iterable[Outcome] | Script = ()) -> None:
        self.calls: list[Request] = []
        self.in_flight = 0
        self.closed = False
        self._say = script if callable(script) else _repeating_the_last(script)

    async def send(self, request: Request) -> Response:
        """Do what comes next in the script."""
        with self._under_way(request):
            outcome = await _come_to(self._say(request))
            return outcome if isinstance(outcome, Response) else answer()

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[ScriptedStream, None]:
        """Do what comes next in the script, as a stream."""
        with self._under_way(request):
            outcome = await _come_to(self._say(request))
            yield ScriptedStream(outcome if isinstance(outcome, Streamed) else Streamed("ok"))

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    @contextmanager
    def _under_way(self, request: Request) -> Generator[None, None, None]:
        self.calls.append(request)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1


class ScriptedStream:
    """The stream of a `Streamed`; see `standby.clients.ProviderStream`."""

    def __init__(self, streamed: Streamed) -> None:
        self.usage: Usage | None = None
        self.request_id = ""
        self.dropped: tuple[str, ...] = ()
        self.content_type = "text/event-stream"
        self.finished = False
        self._steps = iter(streamed.steps)
        self._tokens = streamed.tokens

    def commit(self) -> None:
        """Nothing changes."""

    def ending(self) -> Block | None:
        """Nothing is to be said at the end."""

    async def read(self) -> Block | None:
        """Do the next steps, up to one that is an event."""
        for step in self._steps:
            if isinstance(step, str):
                chunk = {"choices": [{"index": 0, "delta": {"content": step}, "finish_reason": None}]}
                return Block(b"data: " + orjson.dumps(chunk) + b"\n\n", content=bool(step))
            await _wait_or_raise(step)
        self.usage = Usage(0, self._tokens)
        return None


async def _wait_or_raise(step: float | Exception) -> None:
    if isinstance(step, Exception):
        raise step.error if isinstance(step, Fail) else step
    await anyio.sleep(step)


async def _come_to(outcome: Outcome) -> Response | Streamed | None:
    while isinstance(outcome, Slow):
        await anyio.sleep(outcome.seconds)
        outcome = outcome.outcome
    if isinstance(outcome, Exception):
        await _wait_or_raise(outcome)
    return outcome if isinstance(outcome, Response | Streamed) else None


def _repeating_the_last(script: Iterable[Outcome]) -> Script:
    outcomes: Iterator[Outcome] = iter(script)
    last: list[Outcome] = [None]

    def say(_: Request) -> Outcome:
        last[0] = next(outcomes, last[0])
        return last[0]

    return say
