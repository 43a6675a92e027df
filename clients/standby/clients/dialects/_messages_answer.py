"""An answer of Anthropic's Messages: read from a provider, written to a caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import orjson

from standby.clients._protocols import Usage

from ._messages_body import call_of, id_of
from ._messages_request import INVALID_JSON, VENDOR
from ._protocols import NotAnAnswer
from ._signatures import SIGNS_CALLS, marked, own
from ._values import Answer, Choice, Finish, Refusal, Text, Thinking, ToolCall

__all__ = ["answer_of", "finish_of", "message_of", "usage_of", "written_usage"]

_FINISHES: Final[Mapping[str, Finish]] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "pause",
}
_STOP_REASONS: Final[Mapping[Finish, str]] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "content_filter": "refusal",
    "pause": "pause_turn",
}

# -- read --------------------------------------------------------------------------------------------------------


def answer_of(data: Mapping[str, Any]) -> Answer:
    """A whole answer.

    Raises:
        NotAnAnswer: It is none.
    """
    content = data.get("content")
    if not isinstance(content, list):
        raise NotAnAnswer("the answer has no content")
    said = (_part(block) for block in cast("list[object]", content))
    parts: list[Text | Thinking | ToolCall | Refusal] = [part for part in said if part is not None]
    finish = finish_of(data.get("stop_reason"))
    if (why := explanation_of(data)) is not None:
        parts.append(Refusal(why))
    return Answer(
        text_of(data, "id"),
        text_of(data, "model"),
        (Choice(tuple(parts), finish, text_of(data, "stop_sequence")),),
        usage_of(data.get("usage")),
    )


def finish_of(reason: object) -> Finish:
    """Why it ended; what is not known yet is an end like any other.

    Raises:
        NotAnAnswer: It does not say.
    """
    if not isinstance(reason, str):
        raise NotAnAnswer("the answer has no stop_reason")
    return _FINISHES.get(reason, "stop")


def explanation_of(data: Mapping[str, Any]) -> str | None:
    """Why the model declines, in words, where it says so."""
    details = data.get("stop_details")
    return text_of(cast("dict[str, Any]", details), "explanation") or None if isinstance(details, dict) else None


def text_of(data: Mapping[str, Any], key: str) -> str:
    """The text under a key; an empty one where it is anything else."""
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _part(block: object) -> Text | Thinking | ToolCall | None:
    """One block; `None` for a kind that nobody asked for and no other dialect has."""
    if not isinstance(block, dict):
        raise NotAnAnswer("a block of the answer is not an object")
    block = cast("dict[str, Any]", block)
    match block.get("type"):
        case "text":
            return Text(text_of(block, "text")) if block.get("text") else None
        case "thinking":
            return Thinking(text_of(block, "thinking"), marked(text_of(block, "signature"), VENDOR))
        case "redacted_thinking":
            return Thinking("", marked(text_of(block, "data"), VENDOR), redacted=True)
        case "tool_use":
            return ToolCall(text_of(block, "id"), text_of(block, "name"), arguments_of(block.get("input")))
        case _:
            return None


def arguments_of(given: object) -> str:
    """The arguments of a call, as text.

    Raises:
        NotAnAnswer: They are no object.
    """
    if not isinstance(given, dict):
        raise NotAnAnswer("the input of a tool is not an object")
    given = cast("dict[str, Any]", given)
    unread = given.get(INVALID_JSON)
    return unread if len(given) == 1 and isinstance(unread, str) else orjson.dumps(given).decode()


def usage_of(counted: object, before: Usage | None = None) -> Usage | None:
    """The tokens: what came from the cache and what went into it are counted beside ``input_tokens``.

    Args:
        counted: What is said now.
        before: What a stream has said before; it holds where nothing is said now.
    """
    if not isinstance(counted, dict):
        return before
    said = cast("dict[str, Any]", counted)
    before = before or Usage()
    cached = _count(said, "cache_read_input_tokens", before.cached_tokens)
    written = _count(said, "cache_creation_input_tokens", before.cache_write_tokens)
    fresh = _count(said, "input_tokens", before.input_tokens - before.cached_tokens - before.cache_write_tokens)
    details = said.get("output_tokens_details")
    thought = cast("dict[str, Any]", details) if isinstance(details, dict) else {}
    return Usage(
        input_tokens=fresh + cached + written,
        output_tokens=_count(said, "output_tokens", before.output_tokens),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=_count(thought, "thinking_tokens", before.reasoning_tokens),
    )


def _count(said: Mapping[str, Any], key: str, otherwise: int) -> int:
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


# -- written -----------------------------------------------------------------------------------------------------


def message_of(answer: Answer) -> dict[str, Any]:
    """The body of a whole answer: of several choices the first, since this dialect asks for one."""
    choice = answer.choices[0]
    return {
        **head_of(answer.id, answer.model),
        "content": list(_blocks(choice)),
        **stop_of(choice.finish, choice.stop_sequence, refusal_of(choice)),
        "usage": written_usage(answer.usage),
    }


def head_of(id: str, model: str) -> dict[str, Any]:  # noqa: A002 - its name
    """What a message begins with."""
    id = id if id.startswith("msg_") else f"msg_{id_of(id)}"  # noqa: A001 - as above
    return {"id": id, "type": "message", "role": "assistant", "model": model}


def refusal_of(choice: Choice) -> str | None:
    """In what words the model declines; `None` where it does not."""
    refused = [part.text for part in choice.parts if isinstance(part, Refusal)]
    return "".join(refused) if refused else None


def stop_of(finish: Finish, stop_sequence: str, refusal: str | None) -> dict[str, Any]:
    """Why it ended. Words in which the model declines have a place here, and none in the content."""
    details = None
    if refusal is not None:
        finish, details = "refusal", {"type": "refusal", "category": None, "explanation": refusal}
    return {
        "stop_reason": _STOP_REASONS[finish],
        "stop_sequence": stop_sequence or None,
        "stop_details": details,
    }


def unmarked(signature: str) -> str:
    """A signature as callers of Anthropic know it; one of another vendor keeps that vendor's name."""
    return own(signature, VENDOR) or signature


def _blocks(choice: Choice) -> Iterator[dict[str, Any]]:
    for part in choice.parts:
        match part:
            case Text():
                yield {"type": "text", "text": part.text, "citations": None}
            case Thinking() if part.redacted:
                yield {"type": "redacted_thinking", "data": unmarked(part.signature)}
            case Thinking():
                yield {"type": "thinking", "thinking": part.text, "signature": unmarked(part.signature)}
            case ToolCall():
                if part.signature:
                    yield {"type": "thinking", "thinking": "", "signature": marked(part.signature, SIGNS_CALLS)}
                yield call_of(part)
            case Refusal():
                pass


def written_usage(usage: Usage | None) -> dict[str, Any]:
    """The tokens, as this dialect counts them."""
    usage = usage or Usage()
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
