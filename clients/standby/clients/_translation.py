"""One call of a caller whose dialect the provider does not speak: translated on its way out and on its way back. Pure.

What a caller may ask is in `dialects`; a client gives this the wire that its provider speaks, and carries the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

import orjson

from ._answers import Scrub, error_inside, success, unusable
from ._body import Body, InvalidBody
from ._breaks import MAX_SILENT_BYTES, StreamedAnswer, broken, drain
from ._errors import ClientError
from ._http_answer import HttpAnswer, request_id_of
from ._protocols import EVENT_STREAM, Block, Request, Response, Usage
from ._sse import Event
from .dialects import (
    Answer,
    Begun,
    Conversation,
    Counted,
    Dialect,
    Finish,
    Finished,
    InvalidRequest,
    NotAnAnswer,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallBegun,
    Wire,
    dialect_of,
    fitted,
)

_EMPTY: Final = "the answer is complete and has nothing in it"


@dataclass(frozen=True, slots=True)
class Translation:
    """One translated call.

    Attributes:
        content: The body to send.
        dropped: What was left out of it.
    """

    content: bytes
    dropped: tuple[str, ...]
    _model: str
    _asked: Conversation
    _dialect: Dialect
    _wire: Wire

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The answer as the caller's dialect has it.

        Args:
            answer: The provider's.
            now: The time, in seconds since the epoch.
            scrub: Takes secrets out of a text.

        Raises:
            ClientError: For an answer that is a failure, or none at all.
        """
        status, headers = answer.status, answer.headers
        data = success(answer, now=now, scrub=scrub)
        try:
            said = self._wire.read(data)
        except NotAnAnswer as error:
            raise unusable(error.code, scrub(str(error)), status, headers) from error
        if not _says_something(said):
            raise unusable("empty_response", _EMPTY, status, headers)
        said = _known(said, self._model, headers, now)
        written = self._dialect.answered(said, self._asked)
        return Response(
            status, headers, orjson.dumps(written), written, said.usage, request_id_of(headers), self.dropped
        )

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> TranslatedStream:
        """The stream that an answer is; the rest as `answered`."""
        return TranslatedStream(answer, self._dialect, self._wire, self._asked, self._model, self.dropped, now, scrub)


def translated(request: Request, wire: Wire, *, stream: bool) -> Translation:
    """The request as ``wire`` has it.

    Raises:
        ClientError: ``bad_request`` for what is not of the caller's dialect; ``unsupported_parameter`` for an endpoint
            that only its own vendor has, and for what the wire cannot do and the request does not allow to leave out.
    """
    dialect = dialect_of(request.endpoint)
    if dialect is None:
        message = f"{wire.name} has nothing like {request.endpoint[:100]}"
        raise ClientError("unsupported_parameter", message, status=400, scope="request", work="rejected")
    try:
        asked = dialect.conversation(Body.of(request.body).data)
    except InvalidRequest as error:
        raise _bad_request(str(error), error.param) from error
    except InvalidBody as error:
        raise _bad_request(f"the request's body: {error}") from error
    conversation, dropped = fitted(asked, wire, request.drop)
    content = wire.written(conversation, request.model, stream=stream)
    return Translation(content, dropped, request.model, asked, dialect, wire)


class TranslatedStream:
    """One stream that is being read from a provider, and written in the caller's dialect.

    Attributes:
        usage: What the provider counted, as soon as it said so.
        dropped: What was left out of the request.
        content_type: Of what is written.
    """

    content_type = EVENT_STREAM

    def __init__(
        self,
        answer: StreamedAnswer,
        dialect: Dialect,
        wire: Wire,
        asked: Conversation,
        model: str,
        dropped: tuple[str, ...],
        now: float,
        scrub: Scrub,
    ) -> None:
        self.usage: Usage | None = None
        self.dropped = dropped
        self._answer = answer
        self._frames = wire.frames()
        self._reader = wire.reader()
        self._writer = dialect.writer(asked)
        self._choices = asked.n or 1
        self._model = model
        self._now = now
        self._scrub = scrub
        self._finishes: dict[int, Finish] = {}
        self._said_something = False
        self._silent_bytes = 0
        self._blocks: deque[Block] = deque()
        self._ended = False
        self._over = False
        self._failure: ClientError | None = None

    @property
    def request_id(self) -> str:
        """The vendor's own id of the call, or an empty string."""
        return request_id_of(self._answer.headers)

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, whatever may still come."""
        return self._reader.done or len(self._finishes) >= self._choices

    def commit(self) -> None:
        """What comes from now on is passed on."""
        self._said_something = True

    def ending(self) -> Block | None:
        """What ends the answer for its caller, where it is complete and its own end does not come."""
        self._over = True
        return Block(self._writer.end(), content=False)

    async def read(self) -> Block | None:
        """The next events, as they come; `None` at the end of a stream that is complete.

        Raises:
            ClientError: For every way in which a stream can fail, one that ends too early among them. What came before
                the failure was returned.
        """
        while True:
            if self._blocks:
                return self._blocks.popleft()
            if self._failure is not None:
                raise self._failure
            if self._over:
                if not self._ended:
                    self._ended = True
                    await drain(self._answer)
                return None
            if self._ended:
                self._end()
            else:
                await self._receive()

    async def _receive(self) -> None:
        try:
            part = await self._answer.read_some()
            if part:
                self._take(self._frames.feed(part))
                self._bound(len(part))
                return
            self._ended = True
            self._take(self._frames.rest())
        except ClientError as error:
            self._ended = True
            if not self.finished:  # else the answer is whole, and how its connection ended is no news
                self._failure = broken(self._answer, error)
        except NotAnAnswer as error:
            self._ended = True
            self._failure = self._unusable(error.code, self._scrub(str(error)))

    def _bound(self, size: int) -> None:
        if not self._said_something:
            self._silent_bytes += size
            if self._silent_bytes > MAX_SILENT_BYTES:
                self._failure = self._unusable("invalid_response", f"no content within {MAX_SILENT_BYTES} bytes")

    def _take(self, events: Iterable[Event]) -> None:
        """Read the events of one piece and write them; what fails is told after what was said before it."""
        written: list[bytes] = []
        content = False
        try:
            for event in events:
                if not event.data or self._over or self._failure is not None:
                    continue
                data = _object(event.data)
                if data is not None and (failure := self._error_in(event, data)) is not None:
                    self._failure = failure
                    break
                for delta in self._reader.read(event):
                    content |= self._note(delta)
                    if isinstance(delta, Begun):
                        delta = _known(delta, self._model, self._answer.headers, self._now)  # noqa: PLW2901 - the same, completed
                    written.append(self._writer.write(delta))
                if self._reader.done:
                    self._said_something |= content  # it may all have come at once
                    self._end()
        except NotAnAnswer as error:
            self._failure = self._unusable(error.code, self._scrub(str(error)))
        finally:
            self._said_something |= content
            if raw := b"".join(written):
                # Before what `_end` wrote, if it did.
                self._blocks.appendleft(Block(raw, content))

    def _note(self, delta: object) -> bool:
        """Remember what a delta tells; whether it is content."""
        match delta:
            case Finished():
                self._finishes.setdefault(delta.choice, delta.finish)
            case Counted():
                self.usage = delta.usage
            case ToolCallBegun():
                return True
            case TextDelta() | ThinkingDelta() | RefusalDelta():
                return bool(delta.text)
            case _:
                pass
        return False

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        if event.type == "error" and not data.get("error"):
            data = {"error": data}
        status, headers = self._answer.status, self._answer.headers
        return error_inside(status, headers, data, now=self._now, scrub=self._scrub)

    def _end(self) -> None:
        self._over = True
        if not self.finished:
            self._failure = broken(self._answer, None)
        elif not self._said_something and not self._silence_is_explained():
            self._failure = self._unusable("empty_response", "the stream is complete and has nothing in it")
        else:
            self._blocks.append(Block(self._writer.end(), content=False))

    def _silence_is_explained(self) -> bool:
        return any(_explains(finish, self.usage) for finish in self._finishes.values())

    def _unusable(self, code: str, message: str) -> ClientError:
        return unusable(code, message, self._answer.status, self._answer.headers)


_Named = TypeVar("_Named", Answer, Begun)


def _known(said: _Named, model: str, headers: Mapping[str, str], now: float) -> _Named:
    """With an id, a model and a time, which callers expect and some vendors do not tell."""
    ident = said.id or request_id_of(headers) or f"{now * 1e6:.0f}"
    return replace(said, id=ident, model=said.model or model, created=said.created or int(now))


def _says_something(answer: Answer) -> bool:
    return any(choice.parts or _explains(choice.finish, answer.usage) for choice in answer.choices)


def _explains(finish: Finish, usage: Usage | None) -> bool:
    """Whether it is clear why a complete answer has nothing in it, so that it is an answer all the same."""
    # A model that thought until its tokens ran out has answered; its thoughts are hidden, and counted.
    thought = usage is not None and usage.reasoning_tokens > 0
    return finish in ("content_filter", "refusal", "pause") or (finish == "length" and thought)


def _bad_request(message: str, param: str = "") -> ClientError:
    vendor = {"param": param} if param else None
    return ClientError("bad_request", message, status=400, scope="request", work="rejected", vendor=vendor)


def _object(content: bytes) -> Mapping[str, Any] | None:
    """A JSON object; `None` for anything else."""
    try:
        data: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else None
