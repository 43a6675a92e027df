"""A streamed run: the same plan as a plain one until the stream has content, then the provider's events as they come.

What comes before the commit is held back, so that a failure is one like any other and the caller never hears of it.
After it nobody can take over: what breaks then is told as `StreamInterrupted`, never hidden, never spliced.

The clocks: until the commit the try's own (`firstTokenSeconds`); from then on `idleSeconds` lies over each read, and
the run's deadline over everything. No clock runs while the caller is busy with what it was given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import anyio
import orjson

from standby.clients import Block, Chunk, ClientError, ProviderStream, Request, StreamingClient, Usage
from standby.store import Commit, Effect

from ._drive import Driver, Run
from ._errors import StreamInterrupted
from ._plan import Call
from ._record import RunRecord
from ._route import RouteCandidate

MAX_PARTIAL_BYTES: Final = 256 * 1024
"""How much of a stream is kept for `StreamInterrupted.partial`: memory is bounded, however long the stream."""


@dataclass(slots=True)
class Opened:
    """A stream that a candidate has begun and the run may commit to.

    Attributes:
        stream: What is read from.
        held: What has come and was held back.
        complete: Whether that is all there is.
        closing: Closes the stream.
    """

    stream: ProviderStream
    held: deque[Block]
    complete: bool
    closing: AsyncExitStack


async def open_stream(candidate: RouteCandidate, request: Request, commit: Commit, now: Callable[[], float]) -> Opened:
    """Call ``candidate`` and read until the run may commit to its stream.

    Raises:
        ClientError: The call failed before that; whatever came of it is forgotten.
    """
    client = candidate.client
    if not isinstance(client, StreamingClient):
        raise ClientError(
            "unsupported_parameter", f"the client of {candidate.provider} cannot stream", status=400, work="not_sent"
        )
    async with AsyncExitStack() as closing:
        stream = await closing.enter_async_context(client.stream(request))
        held, complete = await _until_commit(stream, commit, now)
        stream.commit()
        return Opened(stream, held, complete, closing.pop_all())
    raise AssertionError("unreachable")


async def _until_commit(stream: ProviderStream, commit: Commit, now: Callable[[], float]) -> tuple[deque[Block], bool]:
    held: deque[Block] = deque()
    size, first_content_at = 0, None
    while (block := await stream.read()) is not None:
        held.append(block)
        size += len(block.raw)
        if block.content and first_content_at is None:
            first_content_at = now()
        if first_content_at is None:
            continue
        match commit.at:
            case "first_content":
                return held, False
            case "bytes":
                enough = size >= (commit.value or 0)
            case "seconds":
                enough = now() - first_content_at >= (commit.value or 0)
        if enough:
            return held, False
    return held, True


class RunStream:
    """One streamed run, inside ``async with``: entering returns when there is content, iterating gives the events.

    Attributes:
        record: Every try, decision and effect of the run; complete at the end.
    """

    def __init__(self, driver: Driver, run: Run) -> None:
        self.record: RunRecord = run.record
        self._driver = driver
        self._run = run
        self._plan = run.plan
        self._timeline = run.timeline
        self._call: Call
        self._opened: Opened
        self._chunks: Iterator[Chunk] = iter(())
        self._over = False
        self._partial: list[bytes] = []
        self._partial_bytes = 0

    async def __aenter__(self) -> Self:
        """Find a candidate whose stream has content.

        Raises:
            RunFailed: Nobody had any.
        """
        try:
            self._opened = await self._driver.drive(self._run, self._open, self._commit)
        except BaseException:
            await self._driver.end(self._run)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._opened.closing.aclose()
        finally:
            if self.record.ending is None:
                # The caller left before the end: nobody's health changes.
                self._plan.report_left(self._timeline.now())
            self.record.usage = self.usage
            await self._driver.end(self._run)

    @property
    def usage(self) -> Usage | None:
        """What the provider counted, as soon as it said so."""
        return self._opened.stream.usage

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """The next event.

        Raises:
            StreamInterrupted: The stream broke.
        """
        while True:
            chunk = next(self._chunks, None)
            if chunk is not None:
                return chunk
            block = await self.read()
            if block is None:
                raise StopAsyncIteration
            self._chunks = block.chunks()

    async def read(self) -> Block | None:
        """The next events as they came, to be passed on; `None` at the end of a stream that is complete.

        Raises:
            StreamInterrupted: The stream broke.
        """
        opened = self._opened
        if opened.held:
            return self._kept(opened.held.popleft())
        if self._over:
            return None
        if opened.complete:
            await self._completed()
            return None
        began_at = self._timeline.now()
        until = min(began_at + self._call.candidate.idle_seconds, self._plan.deadline)
        clock = anyio.CancelScope(deadline=self._timeline.deadline(until))
        block: Block | None = None
        try:
            with clock:
                block = await opened.stream.read()
        except Exception as error:
            raise await self._broken(error) from error
        if clock.cancelled_caught:
            silent = self._silent(began_at)
            raise await self._broken(silent) from silent
        if block is None:
            await self._completed()
            return None
        return self._kept(block)

    async def _open(self, candidate: RouteCandidate) -> Opened:
        run = self._run
        return await open_stream(candidate, run.request_for(candidate), self._plan.route.commit, self._timeline.now)

    def _commit(self, call: Call, began_at: float, now: float) -> tuple[Effect, ...]:
        self._call = call
        return self._plan.report_commit(call, began_at, now)

    def _kept(self, block: Block) -> Block:
        if self._partial_bytes < MAX_PARTIAL_BYTES:
            self._partial.append(block.raw)
            self._partial_bytes += len(block.raw)
        return block

    async def _completed(self) -> None:
        self._over = True
        self.record.ending = "answered"
        await self._driver.apply(self._plan.report_end(self._call, self._timeline.now()))

    def _silent(self, began_at: float) -> ClientError:
        now = self._timeline.now()
        if now >= self._plan.deadline:
            return ClientError("timeout", "the run's deadline cut the stream", retryable=True, scope="caller")
        message = f"nothing came within {now - began_at:.3g} s (idleSeconds)"
        return ClientError("stream_read_error", message, status=200, retryable=True, work="billed")

    async def _broken(self, error: Exception) -> StreamInterrupted:
        self._over = True
        self.record.ending = "interrupted"
        await self._driver.apply(self._plan.report_break(self._call, error, self._timeline.now()))
        partial = text_of(Block(b"".join(self._partial), content=True))
        return StreamInterrupted(str(error), partial, self.usage, self.record)


def text_of(block: Block) -> str:
    """The text that the first choice of a chat or a completion says in these events."""
    return "".join(said for chunk in block.chunks() for said in _said(chunk))


def _said(chunk: Chunk) -> Iterator[str]:
    try:
        choices: list[dict[str, Any]] = chunk.data.get("choices") or []
    except orjson.JSONDecodeError:
        return  # after the commit nobody has looked at what is passed on
    for choice in choices:
        delta: dict[str, Any] = choice.get("delta") or {}
        if choice.get("index", 0) == 0:
            yield delta.get("content") or choice.get("text") or ""
