"""A stream of Gemini: each event is an answer that has the next piece. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

import orjson

from standby.clients._sse import Event, events_in

from ._frames import EventFrames
from ._gemini_answer import (
    candidates_of,
    created_of,
    finish_of,
    head_of,
    index_of,
    logprobs_of,
    parts_of,
    usage_of,
)
from ._protocols import NotAnAnswer
from ._values import (
    Begun,
    Counted,
    Delta,
    Finished,
    LogprobsDelta,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCallBegun,
    ToolCallDelta,
)

_END: Final = b"\n\n"


class GeminiReader:
    """Reads one stream. Nothing but the end of the HTTP answer says that it is over."""

    done = False

    def __init__(self) -> None:
        self._id: str | None = None
        self._calls: dict[int, int] = {}
        self._finished: set[int] = set()

    def read(self, event: Event) -> Iterable[Delta]:
        """What the event says.

        Raises:
            NotAnAnswer: It is none of Gemini's, or says that the prompt was blocked, or that the model failed.
        """
        data = _object(event.data)
        if self._id is None:
            self._id, model = head_of(data)
            yield Begun(self._id, model, created_of(data))
        for candidate in candidates_of(data):
            yield from self._candidate(candidate)
        if usage := usage_of(data):
            yield Counted(usage)

    def _candidate(self, candidate: Mapping[str, Any]) -> Iterator[Delta]:
        index = index_of(candidate)
        for part in parts_of(candidate, self._id or "", self._calls.get(index, 0)):
            match part:
                case Text():
                    yield TextDelta(part.text, index)
                case Thinking():
                    if part.text:
                        yield ThinkingDelta(part.text, index)
                    if part.signature:
                        yield SignatureDelta(part.signature, choice=index)
                case _:
                    place = self._calls[index] = self._calls.get(index, 0) + 1
                    yield ToolCallBegun(place - 1, part.id, part.name, part.signature, index)
                    yield ToolCallDelta(place - 1, part.arguments, index)
        if logprobs := logprobs_of(candidate):
            yield LogprobsDelta(logprobs, index)
        finish = finish_of(candidate, index in self._calls)
        if finish is not None and index not in self._finished:
            self._finished.add(index)
            yield Finished(finish, choice=index)


class GeminiFrames(EventFrames):
    """Server-sent events. An error that comes in the middle may be bare JSON instead, in an array or not.

    So it is read by Google's own client: github.com/googleapis/python-genai (google/genai/_api_client.py).
    """

    def _events(self, block: bytes) -> Iterator[Event]:
        for raw in block.split(_END):
            bare = raw.strip(b"\n")
            if bare.startswith((b"{", b"[")):
                yield from _bare(bare)
            else:
                yield from events_in(raw)


def _bare(content: bytes) -> Iterator[Event]:
    """JSON that is no event; nothing where it was cut."""
    try:
        value: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    yield Event(orjson.dumps(value), "message")


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        data: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise NotAnAnswer("an event of the stream is no JSON object")
    return cast("dict[str, Any]", data)
