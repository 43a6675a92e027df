"""A stream of OpenAI's chat completions, read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson

from standby.clients._openai_wire import objects, usage_of
from standby.clients._protocols import Usage
from standby.clients._sse import Event

from ._chat_answer import (
    finish_of,
    logprobs_of,
    said_in,
    thought_in,
    written_finish,
    written_id,
    written_logprobs,
    written_usage,
)
from ._chat_parts import arguments_of, signature_of, written_signature, written_thought
from ._protocols import NotAnAnswer
from ._reading import as_object, as_objects, as_text
from ._values import (
    Begun,
    Conversation,
    Counted,
    Delta,
    Finished,
    LogprobsDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCallBegun,
    ToolCallDelta,
)

__all__ = ["ChatReader", "ChatWriter"]

_DONE: Final = b"[DONE]"

# -- read --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Heard:
    """What was heard of one choice: the ids of its calls, by the place where the server counts them."""

    calls: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    count: int = 0
    refused: bool = False
    finished: bool = False


class ChatReader:
    """Reads one stream.

    Args:
        signer: Whose its signatures are; empty where they are to bear no name.

    Attributes:
        done: Whether ``[DONE]`` came.
    """

    def __init__(self, signer: str = "") -> None:
        self.done = False
        self._signer = signer
        self._begun = False
        self._choices: dict[int, _Heard] = {}

    def read(self, event: Event) -> Iterator[Delta]:
        """What an event says.

        Raises:
            NotAnAnswer: It is no chunk of a chat completion.
        """
        if event.data.strip() == _DONE:
            self.done = True
            # Some servers leave the reasons out: that it is over says enough.
            for index, heard in self._choices.items():
                if not heard.finished:
                    yield Finished("tool_calls" if heard.calls else "stop", choice=index)
            return
        chunk = _chunk(event.data)
        choices = objects(chunk.get("choices")) or []
        # Azure begins with what its filter found, under no id.
        if not self._begun and choices:
            self._begun = True
            yield _begun(chunk)
        for choice in choices:
            yield from self._choice(choice)
        if (usage := usage_of(chunk.get("usage"))) is not None:
            yield Counted(usage)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        told = choice.get("index")
        index = told if isinstance(told, int) else 0
        heard = self._choices.setdefault(index, _Heard())
        delta = as_object(choice.get("delta"))
        yield from _thought_in(delta, self._signer, index)
        yield from _said(delta, choice, index, heard)
        if choice.get("finish_reason") and not heard.finished:
            heard.finished = True
            finish, sequence = finish_of(choice, refused=heard.refused, called=bool(heard.calls))
            yield Finished(finish, sequence, index)


def _chunk(data: bytes) -> Mapping[str, Any]:
    try:
        chunk: object = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotAnAnswer("an event of the stream is not JSON") from error
    if not isinstance(chunk, dict):
        raise NotAnAnswer("an event of the stream is no JSON object")
    return cast("dict[str, Any]", chunk)


def _begun(chunk: Mapping[str, Any]) -> Begun:
    created = chunk.get("created")
    return Begun(as_text(chunk.get("id")), as_text(chunk.get("model")), created if isinstance(created, int) else 0)


def _thought_in(delta: Mapping[str, Any], signer: str, index: int) -> Iterator[Delta]:
    for thought in thought_in(delta, signer):
        if thought.text:
            yield ThinkingDelta(thought.text, index)
        if thought.signature:
            yield SignatureDelta(thought.signature, thought.redacted, index)


def _said(delta: Mapping[str, Any], choice: Mapping[str, Any], index: int, heard: _Heard) -> Iterator[Delta]:
    for said in said_in(delta.get("content")):
        yield TextDelta(said.text, index)
    if refusal := as_text(delta.get("refusal")):
        heard.refused = True
        yield RefusalDelta(refusal, index)
    if logprobs := logprobs_of(choice.get("logprobs")):
        yield LogprobsDelta(logprobs, index)
    for place, call in enumerate(as_objects(delta.get("tool_calls"))):
        yield from _called(call, place, index, heard)


def _called(call: Mapping[str, Any], place: int, index: int, heard: _Heard) -> Iterator[Delta]:
    """A piece of a call. Some servers count no calls, or all as the first: then a new id is a new call."""
    function = as_object(call.get("function"))
    call_id, name = as_text(call.get("id")), as_text(function.get("name"))
    counted = call.get("index")
    key = counted if isinstance(counted, int) else place
    known = heard.calls.get(key)
    if known is None or (call_id and call_id != known[1]):
        if not name:
            raise NotAnAnswer("a call of a tool has no name")
        known = heard.calls[key] = (heard.count, call_id or f"call_{heard.count}")
        heard.count += 1
        yield ToolCallBegun(*known, name, signature_of(call.get("extra_content")), index)
    if arguments := arguments_of(function.get("arguments")):
        yield ToolCallDelta(known[0], arguments, index)


# -- written -----------------------------------------------------------------------------------------------------

_OfAChoice = (
    TextDelta | ThinkingDelta | SignatureDelta | RefusalDelta | ToolCallBegun | ToolCallDelta | LogprobsDelta | Finished
)


@dataclass(slots=True)
class _Told:
    """What was told of one choice: the place of its thought, whether that is open, and a text that waits."""

    thought: int = 0
    thinking: bool = False
    refused: bool = False
    text: str = ""

    def end_thought(self) -> None:
        self.thinking = False
        self.thought += 1


class ChatWriter:
    """Writes one stream."""

    def __init__(self, conversation: Conversation) -> None:
        self._include_usage = conversation.include_usage
        self._waits = conversation.logprobs is not None  # they stand in the chunk of their text
        self._head: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._choices: dict[int, _Told] = {}

    def write(self, delta: Delta) -> bytes:
        """Whole events."""
        match delta:
            case Begun():
                self._head = {
                    "id": written_id(delta.id),
                    "object": "chat.completion.chunk",
                    "created": delta.created,
                    "model": delta.model,
                }
                return self._role(0)
            case Counted():
                self._usage = delta.usage
                return b""
            case _:
                told = self._choices.get(delta.choice)
                role = b"" if told is not None else self._role(delta.choice)
                return role + self._written(delta, self._choices[delta.choice])

    def end(self) -> bytes:
        """The tokens, where they were asked for, and the end."""
        waiting = b"".join(self._waiting(told, index) for index, told in self._choices.items())
        counted = b""
        if self._include_usage and self._usage is not None:
            counted = _event({**self._head, "choices": [], "usage": written_usage(self._usage)})
        return waiting + counted + b"data: [DONE]\n\n"

    def _written(self, delta: _OfAChoice, told: _Told) -> bytes:
        index = delta.choice
        if isinstance(delta, LogprobsDelta):
            said = {"content": told.text} if told.text else {}
            logprobs = written_logprobs(delta.logprobs, refusal=told.refused and not told.text)
            told.text = ""
            return self._chunk(index, said, logprobs=logprobs)
        waiting = self._waiting(told, index)
        if told.thinking and not isinstance(delta, ThinkingDelta | SignatureDelta):
            told.end_thought()
        match delta:
            case TextDelta():
                told.text = delta.text
                return waiting if self._waits else self._waiting(told, index)
            case ThinkingDelta() | SignatureDelta():
                return waiting + self._chunk(index, _thought(delta, told))
            case RefusalDelta():
                told.refused = True
                return waiting + self._chunk(index, {"refusal": delta.text})
            case ToolCallBegun() | ToolCallDelta():
                return waiting + self._chunk(index, {"tool_calls": [_call(delta)]})
            case Finished():
                ended = written_finish(delta.finish, delta.stop_sequence, refused=told.refused)
                return waiting + self._chunk(index, {}, **ended)

    def _role(self, index: int) -> bytes:
        self._choices[index] = _Told()
        return self._chunk(index, {"role": "assistant", "content": ""})

    def _waiting(self, told: _Told, index: int) -> bytes:
        text, told.text = told.text, ""
        return self._chunk(index, {"content": text}) if text else b""

    def _chunk(self, index: int, delta: Mapping[str, Any], **more: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}
        usage = {"usage": None} if self._include_usage else {}
        return _event({**self._head, "choices": [choice], **usage})


def _thought(delta: ThinkingDelta | SignatureDelta, told: _Told) -> dict[str, Any]:
    """More of a thought: as text, and in the form that has signatures, by the place of the thought."""
    if isinstance(delta, ThinkingDelta):
        told.thinking = True
        details = [written_thought(Thinking(delta.text), told.thought)]
        return {"reasoning_content": delta.text, "reasoning_details": details}
    if delta.redacted and told.thinking:  # which is no part of what was being thought
        told.end_thought()
    details = [written_thought(Thinking("", delta.signature, delta.redacted), told.thought)]
    told.end_thought()
    return {"reasoning_details": details}


def _call(delta: ToolCallBegun | ToolCallDelta) -> dict[str, Any]:
    if isinstance(delta, ToolCallDelta):
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    function = {"name": delta.name, "arguments": ""}
    signature = written_signature(delta.signature)
    return {"index": delta.index, "id": delta.id, "type": "function", "function": function, **signature}


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
