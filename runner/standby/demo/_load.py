"""The load: requests at a steady pace, as many at once as callers would have; some of them ask for a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import anyio

from standby.clients import Request
from standby.runner import RunFailed, Runner, StreamInterrupted

from ._providers import Progress
from ._tally import Ended

CALLERS: Final = 16
"""How many requests may be under way at once."""
WHOLE_SECONDS: Final = 12.0
"""How long the usual demonstration takes; a shorter one has a slower pace, a longer one a faster."""
PACE_SECONDS: Final = (0.01, 0.1)
"""The least and the most between two requests."""


class Asked(NamedTuple):
    """A request, and whether its answer is to come as a stream."""

    request: Request
    streamed: bool = False


_HELLO: Final = Request("chat", {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 20})
_CHAT: Final = Asked(_HELLO)
_STREAM: Final = Asked(_HELLO, streamed=True)
_EMBED: Final = Asked(Request("embed", {"input": "Hello?"}, endpoint="embeddings"))
_MIX: Final = (_CHAT, _EMBED, _STREAM, _CHAT, _EMBED, _STREAM, _EMBED, _CHAT, _STREAM, _EMBED)

OnEnd = Callable[[Ended], None]
"""Is told of every run that has ended, answered or not."""


def pace_seconds(total: int) -> float:
    """How long to wait between two of ``total`` requests."""
    least, most = PACE_SECONDS
    return min(most, max(least, WHOLE_SECONDS / total))


async def send_all(runner: Runner, progress: Progress, on_end: OnEnd) -> None:
    """Send every request of ``progress``, and return when the last has ended."""
    # The first one goes alone: what is loaded and opened once is then there, and a revoked key is met once.
    await _send(runner, 0, progress, on_end)
    pace, began_at = pace_seconds(progress.total), anyio.current_time()
    numbers = iter(range(1, progress.total))

    async def call() -> None:
        for number in numbers:
            await anyio.sleep_until(began_at + number * pace)
            await _send(runner, number, progress, on_end)

    async with anyio.create_task_group() as callers:
        for _ in range(CALLERS):
            callers.start_soon(call)


async def _send(runner: Runner, number: int, progress: Progress, on_end: OnEnd) -> None:
    progress.sent += 1
    request, streamed = _MIX[number % len(_MIX)]
    try:
        ended = await _read_stream(runner, request) if streamed else Ended((await runner.run(request)).record)
    except RunFailed as failed:
        ended = Ended(failed.record)
    progress.ended += 1
    on_end(ended)


async def _read_stream(runner: Runner, request: Request) -> Ended:
    """Read a stream to its end, as a caller would."""
    began_at = anyio.current_time()
    async with runner.stream(request) as stream:
        content_after = anyio.current_time() - began_at
        try:
            async for _ in stream:
                pass
        except StreamInterrupted:
            pass  # the record says so, and such a request counts as not answered
    return Ended(stream.record, content_after)
