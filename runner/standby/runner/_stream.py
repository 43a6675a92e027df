"""A streamed run: the same plan as a plain one until the stream has content, then the provider's events as they come.

What comes before the commit is held back, so that a failure is one like any other and the caller never hears of it.
After it nobody can take over: what breaks then is told as `StreamInterrupted`, never hidden, never spliced.

The clocks: until the commit the try's own (`firstTokenSeconds`); from then on `idleSeconds` lies over each read, and
the run's deadline over everything. No clock runs while the caller is busy with what it was given.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import orjson

from standby.clients import EVENT_STREAM, Block, Chunk, ClientError, ProviderStream, Request, StreamingClient, Usage
from standby.store import Effect

from ._drive import Driver
from ._errors import StreamInterrupted
from ._record import RunRecord
from ._route import RouteCandidate
from ._run import Run
from ._scope import Scope, kept_scope
from ._steps import Call

if TYPE_CHECKING:
    from standby.store import Commit

MAX_PARTIAL_BYTES: Final = 256 * 1024
"""How much of a stream is kept for `StreamInterrupted.partial`: memory is bounded, however long the stream."""

MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""How much is held back while the clock of a later commit runs; then the run commits."""


@dataclass(slots=True)
class Opened:
    """A stream that a candidate has begun and the run may commit to.

    Attributes:
        stream: What is read from.
        held: What has come and was held back.
        complete: Whether that is all there is.
        context: What closes the stream; it is entered.
    """

    stream: ProviderStream
    held: deque[Block]
    complete: bool
    context: AbstractAsyncContextManager[ProviderStream]


async def open_stream(candidate: RouteCandidate, request: Request, commit: Commit, now: Callable[[], float]) -> Opened:
    """Call ``candidate`` and read until the run may commit to its stream.

    Raises:
        ClientError: The call failed before that; whatever came of it is forgotten.
    """
    if not _can_stream(type(candidate.client)):
        raise ClientError(
            "unsupported_parameter", f"the client of {candidate.provider} cannot stream", status=400, work="not_sent"
        )
    context = cast("StreamingClient", candidate.client).stream(request)
    stream = await context.__aenter__()
    try:
        held, complete = await _until_commit(stream, commit, now)
    except BaseException:
        await context.__aexit__(*sys.exc_info())
        raise
    stream.commit()
    return Opened(stream, held, complete, context)


async def _close(opened: Opened) -> None:
    await opened.context.__aexit__(None, None, None)


@functools.cache
def _can_stream(client: type) -> bool:
    """To ask a protocol is too slow for every call."""
    return issubclass(client, StreamingClient)


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
                enough = now() - first_content_at >= (commit.value or 0) or size >= MAX_HELD_BYTES
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
        self._opened: Opened | None = None
        self._chunks: Iterator[Chunk] = iter(())
        self._over = False
        self._interrupted: StreamInterrupted | None = None
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._clock: Scope | None = None

    async def __aenter__(self) -> Self:
        """Find a candidate whose stream has content.

        Raises:
            RunFailed: Nobody had any.
        """
        try:
            await self._driver.drive(self._run, self._open, self._commit, _close)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        if self._clock is not None:
            self._clock.close()
        try:
            if self._opened is not None:
                await _close(self._opened)
        finally:
            self.record.usage = self.usage
            if self._opened is not None and self.record.ending is None:
                # The caller left before the end: nobody's health changes.
                self._plan.report_left(self._timeline.now())
            await self._driver.end(self._run)

    @property
    def usage(self) -> Usage | None:
        """What the provider counted, as soon as it said so."""
        return None if self._opened is None else self._opened.stream.usage

    @property
    def content_type(self) -> str:
        """Of what is read: events, unless it is sound."""
        return EVENT_STREAM if self._opened is None else self._opened.stream.content_type

    @property
    def has_events(self) -> bool:
        """Whether what is read are events; sound comes in pieces, which only `read` gives."""
        return self.content_type.startswith(EVENT_STREAM)

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
        if opened is None:
            raise RuntimeError("a stream is read inside `async with`")
        if opened.held:
            return self._kept(opened.held.popleft())
        if self._interrupted is not None:
            raise self._interrupted
        if self._over:
            return None
        block: Block | None = None
        if not opened.complete:
            began_at = self._timeline.now()
            until = min(began_at + self._call.candidate.idle_seconds, self._plan.deadline)
            if (clock := self._clock) is None:
                clock = self._clock = kept_scope()
            try:
                with clock.within(until - began_at):
                    block = await opened.stream.read()
            except Exception as error:
                raise await self._broken(error) from error
            if clock.cancelled_caught:
                if not opened.stream.finished:
                    silent = self._silent(began_at)
                    raise await self._broken(silent) from silent
                block, opened.complete = opened.stream.ending(), True
        if block is None:
            await self._completed()
            return None
        return self._kept(block)

    async def _open(self, candidate: RouteCandidate) -> Opened:
        commit, now = self._plan.route.commit, self._timeline.now
        return await open_stream(candidate, self._run.request_for(candidate), commit, now)

    def _commit(self, call: Call, opened: Opened, began_at: float, now: float) -> tuple[Effect, ...]:
        self._call, self._opened = call, opened
        self.record.dropped = opened.stream.dropped
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
        self.record.ending = "interrupted"
        partial = text_of(Block(b"".join(self._partial), content=True))
        self._interrupted = StreamInterrupted(str(error), partial, self.usage, self.record)
        await self._driver.apply(self._plan.report_break(self._call, error, self._timeline.now()))
        return self._interrupted


def text_of(block: Block) -> str:
    """The text that these events say: of chats and completions the first choice's."""
    return "".join(said for chunk in block.chunks() for said in _said(chunk))


def _said(chunk: Chunk) -> Iterator[str]:
    # After the commit nobody has looked at what was passed on: it need not be what it should be.
    with suppress(orjson.JSONDecodeError, AttributeError, TypeError):
        data = chunk.data
        if data.get("type") == "response.output_text.delta":
            yield from _text(data.get("delta"))
        if data.get("type") == "content_block_delta":
            block: dict[str, Any] = data.get("delta") or {}
            yield from _text(block.get("text"))
        choices: list[dict[str, Any]] = data.get("choices") or []
        for choice in choices:
            delta: dict[str, Any] = choice.get("delta") or {}
            if choice.get("index", 0) == 0:
                yield from _text(delta.get("content") or choice.get("text"))


def _text(said: object) -> Iterator[str]:
    if isinstance(said, str):
        yield said
