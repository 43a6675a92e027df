"""A stream of Bedrock's Converse: AWS's binary events taken apart, and what they say."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson

from standby.clients._sse import MAX_EVENT_BYTES, Event

from ._converse_answer import finish_of, mapping, stop_sequence_of, text, usage_of
from ._messages_request import VENDOR
from ._protocols import NotAnAnswer
from ._signatures import marked
from ._values import (
    Begun,
    Counted,
    Delta,
    Finished,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallBegun,
    ToolCallDelta,
)

if TYPE_CHECKING:
    from botocore.eventstream import EventStreamMessage

__all__ = ["ConverseReader", "EventStreamFrames"]


class EventStreamFrames:
    """Takes ``application/vnd.amazon.eventstream`` apart. botocore does it, and checks its sums; the bound is ours.

    An exception that comes as an event is an event of the type ``error``, with an error object in it.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        from botocore.eventstream import EventStreamBuffer  # noqa: PLC0415 - an optional dependency

        self._buffer = EventStreamBuffer()
        self._max_event_bytes = max_event_bytes
        self._pending_bytes = 0

    def feed(self, content: bytes) -> Iterator[Event]:
        """The events that are whole now, one by one, so that those before a broken one are not lost with it.

        Raises:
            NotAnAnswer: An event is larger than is allowed, or is none.
        """
        self._buffer.add_data(content)
        self._pending_bytes += len(content)
        while (message := self._next()) is not None:
            yield _event(message)
        if self._pending_bytes > self._max_event_bytes:
            raise NotAnAnswer(f"an event is larger than {self._max_event_bytes} bytes")

    def rest(self) -> Iterable[Event]:
        """Nothing: an event whose end did not come is none."""
        return ()

    def _next(self) -> EventStreamMessage | None:
        from botocore.eventstream import ParserError  # noqa: PLC0415 - as above

        try:
            message = next(self._buffer, None)
        except (ParserError, struct.error, LookupError, ValueError) as error:
            raise NotAnAnswer(f"the stream has a broken event: {error}") from error
        if message is not None:
            self._pending_bytes -= _size(message)
        return message


def _size(message: EventStreamMessage) -> int:
    prelude: Any = message.prelude
    return cast("int", prelude.total_length)


def _event(message: EventStreamMessage) -> Event:
    headers = cast("Mapping[str, object]", message.headers)
    match headers.get(":message-type"):
        case "exception":
            return _failed(headers.get(":exception-type"), _object(message.payload))
        case "error":
            return _failed(headers.get(":error-code"), {"message": headers.get(":error-message")})
        case _:
            return Event(message.payload, str(headers.get(":event-type", "")))


def _failed(kind: object, said: Mapping[str, object]) -> Event:
    told = {key: value for key, value in said.items() if isinstance(value, str | int)}
    return Event(orjson.dumps({"error": {**told, "type": str(kind or "exception")}}), "error")


def _object(payload: bytes) -> Mapping[str, object]:
    try:
        said: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        said = None
    return cast("dict[str, object]", said) if isinstance(said, dict) else {"message": payload.decode(errors="replace")}


class ConverseReader:
    """Reads one stream.

    Attributes:
        done: Whether the last event came: the one that counts the tokens.
    """

    def __init__(self) -> None:
        self.done = False
        self._calls: dict[object, int] = {}

    def read(self, event: Event) -> Iterator[Delta]:
        """What an event says; what is of a kind that came after this was written says nothing."""
        try:
            said = mapping(orjson.loads(event.data), "an event")
        except orjson.JSONDecodeError as error:
            raise NotAnAnswer("an event of the stream is no JSON") from error
        match event.type:
            case "messageStart":
                yield Begun("", "")
            case "contentBlockStart":
                yield from self._block_begun(said)
            case "contentBlockDelta":
                yield from self._more(said)
            case "messageStop":
                yield Finished(finish_of(said.get("stopReason")), stop_sequence_of(said))
            case "metadata":
                self.done = True
                if (usage := usage_of(said.get("usage"))) is not None:
                    yield Counted(usage)
            case _:
                pass

    def _block_begun(self, said: Mapping[str, Any]) -> Iterator[Delta]:
        match said.get("start"):
            case {"toolUse": {"toolUseId": ident, "name": name}}:
                index = self._calls[said.get("contentBlockIndex")] = len(self._calls)
                yield ToolCallBegun(index, text(ident, "toolUseId"), text(name, "toolUse.name"))
            case start:
                kinds = ", ".join(mapping(start, "start"))
                raise NotAnAnswer(f"a block of the answer is of an unknown kind: {kinds[:100]}")

    def _more(self, said: Mapping[str, Any]) -> Iterator[Delta]:
        match said.get("delta"):
            case {"text": more}:
                yield TextDelta(text(more, "delta.text"))
            case {"toolUse": {"input": more}}:
                index = self._calls.get(said.get("contentBlockIndex"))
                if index is None:
                    raise NotAnAnswer("a call of a tool goes on that did not begin")
                yield ToolCallDelta(index, text(more, "toolUse.input"))
            case {"reasoningContent": {"text": more}}:
                yield ThinkingDelta(text(more, "reasoningContent.text"))
            case {"reasoningContent": {"signature": signature}}:
                yield SignatureDelta(marked(text(signature, "signature"), VENDOR))
            case {"reasoningContent": {"redactedContent": hidden}}:
                yield SignatureDelta(marked(text(hidden, "redactedContent"), VENDOR), redacted=True)
            case {"citation": _}:
                pass  # where a text comes from; the text itself came before
            case delta:
                kinds = ", ".join(mapping(delta, "delta"))
                raise NotAnAnswer(f"a delta of the answer is of an unknown kind: {kinds[:100]}")
