"""What Bedrock's Converse answers: a whole answer, and the words that its streams say too. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import orjson

from standby.clients._protocols import Usage

from ._messages_request import VENDOR
from ._protocols import NotAnAnswer
from ._signatures import marked
from ._values import Answer, Choice, Finish, Text, Thinking, ToolCall

__all__ = ["finish_of", "mapping", "read", "stop_sequence_of", "text", "usage_of"]

_FINISHES: Final[Mapping[str, Finish]] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    # Not in Bedrock's list, but Anthropic's models have them.
    "refusal": "refusal",
    "pause_turn": "pause",
}


def read(data: Mapping[str, Any]) -> Answer:
    """A whole answer. It has no id and names no model.

    Raises:
        NotAnAnswer: It is none.
    """
    content = mapping(mapping(data.get("output"), "output").get("message"), "output.message").get("content")
    if not isinstance(content, list):
        raise NotAnAnswer("output.message.content is no list")
    parts = tuple(part for block in cast("list[object]", content) for part in _parts(mapping(block, "a block")))
    choice = Choice(parts, finish_of(data.get("stopReason")), stop_sequence_of(data))
    return Answer("", "", (choice,), usage_of(data.get("usage")))


def _parts(block: Mapping[str, Any]) -> Iterator[Text | Thinking | ToolCall]:
    match block:
        case {"text": said}:
            if text(said, "text"):
                yield Text(said)
        case {"reasoningContent": {"reasoningText": {"text": said, **more}}}:
            signature = text(more.get("signature", ""), "signature")
            yield Thinking(text(said, "reasoningText.text"), marked(signature, VENDOR))
        case {"reasoningContent": {"redactedContent": hidden}}:
            yield Thinking("", marked(text(hidden, "redactedContent"), VENDOR), redacted=True)
        case {"toolUse": {"toolUseId": ident, "name": name, **more}}:
            arguments = orjson.dumps(mapping(more.get("input"), "toolUse.input")).decode()
            yield ToolCall(text(ident, "toolUseId"), text(name, "toolUse.name"), arguments)
        case {"citationsContent": {"content": list()}}:
            for each in cast("list[object]", block["citationsContent"]["content"]):
                yield Text(text(mapping(each, "citationsContent").get("text"), "citationsContent"))
        case _:
            raise NotAnAnswer(f"a block of the answer is of an unknown kind: {', '.join(block)[:100]}")


def finish_of(reason: object) -> Finish:
    """Why the answer ended. A reason that came after this was written is an end like any other.

    Raises:
        NotAnAnswer: The model's answer is malformed, and Bedrock says so.
    """
    reason = text(reason, "stopReason")
    if reason.startswith("malformed"):
        raise NotAnAnswer(f"the model's answer is of no use: {reason[:100]}")
    return _FINISHES.get(reason, "stop")


def stop_sequence_of(data: Mapping[str, Any]) -> str:
    """The stop sequence that ended the answer; empty where the model does not say."""
    fields = data.get("additionalModelResponseFields")
    found = cast("dict[str, Any]", fields).get("stop_sequence") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else ""


def usage_of(counted: object) -> Usage | None:
    """The tokens, `None` where none were counted. Bedrock's ``inputTokens`` are those that no cache had to do with."""
    if not isinstance(counted, dict):
        return None
    found = cast("dict[str, object]", counted)
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    asked, said, cached, kept = (_number(found.get(name)) for name in names)
    return Usage(asked + cached + kept, said, cached_tokens=cached, cache_write_tokens=kept)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """A JSON object; `NotAnAnswer` for anything else."""
    if not isinstance(value, dict):
        raise NotAnAnswer(f"{where} is no object")
    return cast("dict[str, Any]", value)


def text(value: object, where: str) -> str:
    """A string; `NotAnAnswer` for anything else."""
    if not isinstance(value, str):
        raise NotAnAnswer(f"{where} is no text")
    return value
