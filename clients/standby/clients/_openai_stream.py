"""A stream of an OpenAI-compatible server: bytes in, blocks of whole events out, and what must be known of them.

Until the runner commits to the stream every event is taken apart, since any of them may be the failure that moves the
run to another candidate. From then on the bytes are passed on as they came; a scan finds the few events that tell
something: a finish reason, a count of tokens, an error, the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, cast

import anyio
import orjson

from ._answers import Scrub, error_inside, unusable
from ._errors import ClientError
from ._http_answer import request_id_of
from ._openai_wire import SUBSTANCE, failed_choice, objects, silence_is_explained, usage_of
from ._protocols import Block, Usage
from ._sse import Event, EventDecoder, EventTooLarge, events_in

DONE: Final = b"[DONE]"

DRAIN_SECONDS: Final = 0.1
"""How long the end of the HTTP answer is waited for after the end of the stream, to keep the connection."""

_TELLING: Final = re.compile(
    rb"""
      "finish_reason"\s*:\s*"        # not null
    | "usage"\s*:\s*\{
    | "error"\s*:\s*[{"]
    | \[DONE\]
    | ^event:
    """,
    re.VERBOSE | re.MULTILINE,
)
"""What only an event that tells something has; inside of a text its quotes would be escaped."""


class Answer(Protocol):
    """What is read from: the head has come, the body comes piece by piece."""

    status: int
    headers: Mapping[str, str]

    async def read_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes of the body; empty at its end."""
        ...


class OpenAIStream:
    """One stream that is being read.

    Args:
        answer: What is read from.
        choices: How many choices were asked for; each must finish.
        hide_usage: Whether the event that only counts tokens was asked for by us, and is not for the caller.
        may_end_without_finish: Whether a stream may simply end, as those of some servers do.
        now: When the answer came, in seconds since the epoch.
        scrub: Takes secrets out of a text.

    Attributes:
        usage: What the provider counted, as soon as it said so.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        choices: int,
        hide_usage: bool,
        may_end_without_finish: bool,
        now: float,
        scrub: Scrub,
    ) -> None:
        self.usage: Usage | None = None
        self._answer = answer
        self._decoder = EventDecoder()
        self._choices = choices
        self._hide_usage = hide_usage
        self._may_end_without_finish = may_end_without_finish
        self._now = now
        self._scrub = scrub
        self._committed = False
        self._said_something = False
        self._reasons: dict[object, object] = {}
        self._counted: Mapping[str, Any] = {}
        self._done = False
        self._over = False
        self._failure: ClientError | None = None

    @property
    def request_id(self) -> str:
        """The vendor's own id of the call, or an empty string."""
        return request_id_of(self._answer.headers)

    def commit(self) -> None:
        """From now on only look for what must be known."""
        self._committed = True

    async def read(self) -> Block | None:
        """The next whole events, as they come; `None` at the end of a stream that is complete.

        Raises:
            ClientError: For every way in which a stream can fail, one that ends too early among them. What came before
                the failure was returned.
        """
        while not self._failed and not self._over:
            if raw := await self._whole_events():
                block = self._looked_through(raw)
                if block.raw and (self._committed or not self._failed):
                    return block
        if self._failure is not None:
            raise self._failure
        await self._drain()
        return None

    # -- bytes -> whole events ---------------------------------------------------------------------------------

    async def _whole_events(self) -> bytes:
        try:
            part = await self._answer.read_some()
            if part:
                return self._decoder.feed(part)
        except ClientError as error:
            if not self._finished:  # else the answer is whole, and how its connection ended is no news
                self._failure = self._broken(error)
                return b""
        except EventTooLarge as error:
            self._failure = unusable("invalid_response", str(error), self._answer.status, self._answer.headers)
            return b""
        return self._last_events()

    def _last_events(self) -> bytes:
        """What is left at the end: some servers leave out the blank line after their last event."""
        rest = self._decoder.rest().strip(b"\n")
        if rest and _is_whole(rest):
            self._decoder = EventDecoder()
            return rest + b"\n\n"
        self._end()
        return b""

    async def _drain(self) -> None:
        if self._done:
            with suppress(ClientError), anyio.move_on_after(DRAIN_SECONDS):
                await self._answer.read_some()

    # -- whole events -> what must be known --------------------------------------------------------------------

    def _looked_through(self, raw: bytes) -> Block:
        if self._committed and _TELLING.search(raw) is None:
            return Block(raw, content=True)
        kept: list[bytes] = []
        content, changed = False, False
        for event in events_in(raw):
            if event.data == DONE:
                self._done = True
                kept.append(event.raw)
                self._end()
                break
            data = self._data_of(event)
            if data is None:
                break
            content = self._note(data) or content
            if self._hide_usage and not data.get("choices") and isinstance(data.get("usage"), dict):
                changed = True
            else:
                kept.append(event.raw)
        self._said_something = self._said_something or content
        if changed or self._failure is not None:
            raw = b"".join(event + b"\n\n" for event in kept)
        return Block(raw, content)

    def _data_of(self, event: Event) -> Mapping[str, Any] | None:
        """The event's object; `None`, with the failure noted, where it is none or tells of one."""
        status, headers = self._answer.status, self._answer.headers
        try:
            data: object = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            self._failure = unusable("invalid_response", "an event of the stream is no JSON object", status, headers)
            return None
        body = cast("dict[str, Any]", data)
        told = {"error": body} if event.type == "error" and not body.get("error") else body
        self._failure = error_inside(status, headers, told, now=self._now, scrub=self._scrub) or error_inside(
            status, headers, failed_choice(body), now=self._now, scrub=self._scrub
        )
        return body if self._failure is None else None

    def _note(self, data: Mapping[str, Any]) -> bool:
        """Remember what an event tells; whether it has content."""
        usage = usage_of(data.get("usage"))
        if usage is not None:
            self.usage, self._counted = usage, data
        content = False
        for choice in objects(data.get("choices")) or ():
            delta = choice.get("delta")
            if isinstance(delta, dict):
                said = cast("dict[str, object]", delta)
                content = content or any(said.get(key) for key in SUBSTANCE)
            content = content or bool(choice.get("text"))
            if choice.get("finish_reason") is not None:
                self._reasons[choice.get("index", 0)] = choice["finish_reason"]
        return content

    # -- the end -----------------------------------------------------------------------------------------------

    @property
    def _failed(self) -> bool:
        return self._failure is not None

    @property
    def _finished(self) -> bool:
        return self._done or len(self._reasons) >= self._choices

    def _end(self) -> None:
        self._over = True
        if not self._finished and not self._may_end_without_finish:
            self._failure = self._broken(None)
        elif not self._said_something:
            reasons = [{"finish_reason": reason} for reason in self._reasons.values()]
            if not silence_is_explained(reasons, self._counted):
                message = "the stream is complete and has nothing in it"
                self._failure = unusable("empty_response", message, self._answer.status, self._answer.headers)

    def _broken(self, error: ClientError | None) -> ClientError:
        """The stream broke: what is wrong with the connection below is wrong with the stream."""
        if error is not None and error.code not in ("network", "timeout"):
            return error
        broken = ClientError(
            "stream_read_error",
            "the stream ended before it was finished" if error is None else error.message,
            status=self._answer.status,
            retryable=True,
            work="billed",
            request_id=self.request_id,
        )
        broken.__cause__ = error
        return broken


def _is_whole(rest: bytes) -> bool:
    for event in events_in(rest):
        if event.data == DONE:
            return True
        try:
            return isinstance(orjson.loads(event.data), dict)
        except orjson.JSONDecodeError:
            return False
    return False
