"""A stream of Anthropic's Messages: read from a provider, written to a caller.

Blocks come one after the other. What begins a block of another kind ends the one before; the count of tokens and the
reason of the end come last, together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import orjson

from standby.clients._protocols import Usage
from standby.clients._sse import Event

from ._messages_answer import (
    arguments_of,
    explanation_of,
    finish_of,
    head_of,
    stop_of,
    text_of,
    unmarked,
    usage_of,
    written_usage,
)
from ._messages_body import id_of
from ._messages_request import VENDOR
from ._protocols import NotAnAnswer
from ._signatures import SIGNS_CALLS, marked
from ._values import (
    Begun,
    Counted,
    Delta,
    Finished,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallBegun,
    ToolCallDelta,
)

__all__ = ["MessagesReader", "MessagesWriter"]

_NOTHING: Final[Mapping[str, Any]] = {}


class MessagesReader:
    """Reads one stream."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._calls: dict[object, int] = {}
        self._silent: set[object] = set()
        self._done = False

    @property
    def done(self) -> bool:
        """Whether ``message_stop`` has come."""
        return self._done

    def read(self, event: Event) -> Iterator[Delta]:
        """What the event says.

        Raises:
            NotAnAnswer: It is not of this dialect.
        """
        data = _object(event.data)
        match data.get("type"):
            case "message_start":
                message = _part_of(data, "message")
                yield Begun(text_of(message, "id"), text_of(message, "model"))
                yield from self._counted(message)
            case "content_block_start":
                yield from self._started(data)
            case "content_block_delta":
                yield from self._more(data)
            case "content_block_stop" if data.get("index") in self._silent:
                self._silent.discard(data["index"])
                yield ToolCallDelta(self._calls[data["index"]], "{}")  # it takes nothing, and nothing was said of it
            case "message_delta":
                yield from self._counted(data)
                yield from _ended(_part_of(data, "delta"))
            case "message_stop":
                self._done = True
            case str():
                pass  # `ping`, and what is yet to come
            case _:
                raise NotAnAnswer("an event of the stream has no type")

    def _counted(self, data: Mapping[str, Any]) -> Iterator[Delta]:
        self._usage = usage_of(data.get("usage"), self._usage)
        if self._usage is not None:
            yield Counted(self._usage)

    def _started(self, data: Mapping[str, Any]) -> Iterator[Delta]:
        block = _part_of(data, "content_block")
        match block.get("type"):
            case "text" if block.get("text"):
                yield TextDelta(text_of(block, "text"))
            case "thinking":
                if thought := text_of(block, "thinking"):
                    yield ThinkingDelta(thought)
                if signature := text_of(block, "signature"):
                    yield SignatureDelta(marked(signature, VENDOR))
            case "redacted_thinking":
                yield SignatureDelta(marked(text_of(block, "data"), VENDOR), redacted=True)
            case "tool_use":
                place = data.get("index")
                call = self._calls[place] = len(self._calls)
                yield ToolCallBegun(call, text_of(block, "id"), text_of(block, "name"))
                if block.get("input"):
                    yield ToolCallDelta(call, arguments_of(block["input"]))
                else:
                    self._silent.add(place)
            case _:
                pass

    def _more(self, data: Mapping[str, Any]) -> Iterator[Delta]:
        delta = _part_of(data, "delta")
        match delta.get("type"):
            case "text_delta":
                yield TextDelta(text_of(delta, "text"))
            case "thinking_delta":
                yield ThinkingDelta(text_of(delta, "thinking"))
            case "signature_delta":
                yield SignatureDelta(marked(text_of(delta, "signature"), VENDOR))
            case "input_json_delta" if data.get("index") in self._calls and (said := text_of(delta, "partial_json")):
                self._silent.discard(data["index"])
                yield ToolCallDelta(self._calls[data["index"]], said)
            case _:
                pass


def _ended(delta: Mapping[str, Any]) -> Iterator[Delta]:
    if (why := explanation_of(delta)) is not None:
        yield RefusalDelta(why)
    if delta.get("stop_reason") is not None:
        yield Finished(finish_of(delta["stop_reason"]), text_of(delta, "stop_sequence"))


class MessagesWriter:
    """Writes one stream: of several choices the first."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._finished = Finished("stop")
        self._refusal: list[str] = []
        self._places: dict[int, int] = {}
        self._kind = ""
        self._next = 0

    def write(self, delta: Delta) -> bytes:
        """Whole events; empty for what comes at the end, and for what this dialect cannot tell."""
        if getattr(delta, "choice", 0):
            return b""
        match delta:
            case Begun():
                nothing: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
                message = {**head_of(delta.id, delta.model), **nothing, "usage": written_usage(None)}
                return _event("message_start", message=message)
            case TextDelta():
                return self._said("text", {"text": ""}, {"type": "text_delta", "text": delta.text})
            case ThinkingDelta():
                empty = {"thinking": "", "signature": ""}
                return self._said("thinking", empty, {"type": "thinking_delta", "thinking": delta.text})
            case SignatureDelta():
                return self._signed(delta)
            case ToolCallBegun():
                signed = SignatureDelta(marked(delta.signature, SIGNS_CALLS))
                before = self._stopped() + (self._signed(signed) if delta.signature else b"")
                self._places[delta.index] = self._next
                its: dict[str, Any] = {"id": id_of(delta.id), "name": delta.name, "input": {}}
                return before + self._started("tool_use", its)
            case ToolCallDelta() if delta.index in self._places:
                # A call whose block is over may go on where a server mixes calls: the index says which one is meant.
                said = {"type": "input_json_delta", "partial_json": delta.arguments}
                return _event("content_block_delta", index=self._places[delta.index], delta=said)
            case RefusalDelta():
                self._refusal.append(delta.text)
            case Counted():
                self._usage = delta.usage
            case Finished():
                self._finished = delta
                return self._stopped()
            case _:
                pass
        return b""

    def end(self) -> bytes:
        """Why it ended, what it took, and the end."""
        refusal = "".join(self._refusal) if self._refusal else None
        why = stop_of(self._finished.finish, self._finished.stop_sequence, refusal)
        counted = _event("message_delta", delta=why, usage=written_usage(self._usage))
        return self._stopped() + counted + _event("message_stop")

    def _said(self, kind: str, empty: Mapping[str, Any], said: Mapping[str, Any]) -> bytes:
        before = b"" if self._kind == kind else self._stopped() + self._started(kind, empty)
        return before + _event("content_block_delta", index=self._next - 1, delta=said)

    def _signed(self, delta: SignatureDelta) -> bytes:
        if delta.redacted:
            before = self._stopped() + self._started("redacted_thinking", {"data": unmarked(delta.signature)})
            return before + self._stopped()
        said = {"type": "signature_delta", "signature": unmarked(delta.signature)}
        return self._said("thinking", {"thinking": "", "signature": ""}, said) + self._stopped()

    def _started(self, kind: str, block: Mapping[str, Any]) -> bytes:
        self._kind = kind
        self._next += 1
        return _event("content_block_start", index=self._next - 1, content_block={"type": kind, **block})

    def _stopped(self) -> bytes:
        if not self._kind:
            return b""
        self._kind = ""
        return _event("content_block_stop", index=self._next - 1)


def _event(kind: str, **more: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **more}) + b"\n\n"


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise NotAnAnswer("an event of the stream is no JSON object")
    return cast("dict[str, Any]", value)


def _part_of(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else _NOTHING
