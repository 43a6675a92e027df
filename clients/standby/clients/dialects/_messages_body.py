"""A request to Anthropic's Messages, written; and what of a conversation a Claude cannot be asked."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

import orjson

from ._claude import Claude
from ._effort import budget_of, effort_of
from ._features import parts_of
from ._messages_request import INVALID_JSON, NO_PARAMETERS, VENDOR
from ._signatures import own
from ._values import (
    CacheMark,
    Conversation,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

__all__ = ["body_of", "lacks"]

MIN_BUDGET_TOKENS: Final = 1024
_MAX_MARKS: Final = 4
_IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_TTLS: Final = ("", "5m", "1h")
_NOT_OF_AN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any"}
_EFFORTS: Final[Mapping[str, str]] = {"minimal": "low"}
"""Efforts that Anthropic calls differently."""

# -- what cannot be asked ----------------------------------------------------------------------------------------


def lacks(conversation: Conversation, claude: Claude) -> dict[str, str]:
    """Which features of a conversation ``claude`` cannot do, and why."""
    found = dict(_of_sampling(conversation, claude))
    found.update(_of_thinking(conversation, claude))
    found.update(_of_parts(conversation))
    marks = [mark for each in (*parts_of(conversation), *conversation.tools) if (mark := getattr(each, "cache", None))]
    if len(marks) > _MAX_MARKS or any(mark.ttl not in _TTLS for mark in marks):
        found["cache"] = f"at most {_MAX_MARKS} marks, for 5m or 1h"
    if any(not stop.strip() for stop in conversation.stop):
        found["stop"] = "not white space alone"
    if conversation.service_tier not in (None, "default"):
        found["service_tier"] = "default only"
    return found


def _of_sampling(asked: Conversation, claude: Claude) -> Iterator[tuple[str, str]]:
    temperature, top_p = asked.temperature, asked.top_p
    if temperature is not None and not 0 <= temperature <= 1:
        yield "temperature", "0 to 1"
    if temperature is not None and top_p is not None and claude.samples_by_one:
        yield "top_p", "not beside temperature"
    if not claude.samples:
        chosen = {"temperature": temperature not in (None, 1), "top_p": top_p not in (None, 1)}
        yield from ((name, "not with this model") for name in chosen if chosen[name])
        if asked.top_k is not None:
            yield "top_k", "not with this model"


def _of_thinking(asked: Conversation, claude: Claude) -> Iterator[tuple[str, str]]:
    reasoning = asked.reasoning
    if reasoning is None or reasoning.effort == "none":
        return
    if not claude.thinks:
        yield "reasoning", "this model does not think"
        return
    if not claude.adapts:
        budget, most = reasoning.budget_tokens, asked.max_tokens
        if budget is not None and budget < MIN_BUDGET_TOKENS:
            yield "reasoning", f"a budget of at least {MIN_BUDGET_TOKENS} tokens"
        elif most is not None and most <= max(budget or 0, MIN_BUDGET_TOKENS):
            yield "reasoning", "its tokens are among max_tokens, which must be more"
        elif not _goes_on(asked):
            yield "reasoning", "not between calls of tools that it began without thoughts of its own"
    if asked.temperature not in (None, 1):
        yield "temperature", "1 while it thinks"
    if asked.top_p is not None and asked.top_p < 0.95:
        yield "top_p", "0.95 to 1 while it thinks"
    if asked.top_k is not None:
        yield "top_k", "not while it thinks"
    if asked.tool_choice is not None and asked.tool_choice.kind in ("required", "tool"):
        yield "tool_choice", "auto or none while it thinks"


def _goes_on(asked: Conversation) -> bool:
    """Whether a turn that waits for the results of tools begins with a thought, as it must on a budget."""
    if not asked.messages or asked.messages[-1].role != "tool":
        return True
    calls = next((message for message in reversed(asked.messages) if message.role == "assistant"), None)
    first = calls.parts[0] if calls is not None and calls.parts else None
    return isinstance(first, Thinking) and bool(own(first.signature, VENDOR))


def _of_parts(asked: Conversation) -> Iterator[tuple[str, str]]:
    for part in parts_of(asked):
        match part:
            case Image() if part.data and part.media_type not in _IMAGES:
                yield "image_data", "JPEG, PNG, GIF or WebP"
            case File() if part.url and part.media_type not in ("", "application/pdf"):
                yield "file_url", "PDF only"
            case File() if part.data and _document_text(part) is None and part.media_type != "application/pdf":
                yield "file_data", "PDF or text"
            case Thinking() if not own(part.signature, VENDOR):
                yield "thinking", "only what it thought itself"
            case _:
                pass
    for message in asked.messages:
        if message.role in ("system", "developer") and not all(isinstance(part, Text) for part in message.parts):
            yield "system", "text only"


# -- what is written ---------------------------------------------------------------------------------------------


def body_of(asked: Conversation, model: str, claude: Claude, *, stream: bool) -> dict[str, Any]:
    """The whole body."""
    body: dict[str, Any] = {"model": model, "max_tokens": asked.max_tokens or claude.max_tokens}
    if asked.reasoning is not None:
        body |= _thinking(asked.reasoning, asked.max_tokens, claude)
    system = [_text(part) for message in asked.messages if _is_system(message) for part in message.parts]
    given: dict[str, Any] = {
        "system": [block for block in system if block is not None],
        "messages": _turns(message for message in asked.messages if not _is_system(message)),
        "tools": [_tool(tool) for tool in asked.tools],
        "tool_choice": _tool_choice(asked),
        "stop_sequences": asked.stop,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "metadata": {"user_id": asked.user} if asked.user is not None else None,
        "service_tier": {"default": "standard_only"}.get(asked.service_tier or ""),
        "stream": stream or None,
    }
    if asked.response_format is not None:
        schema = dict(asked.response_format.schema or {})
        if asked.response_format.description:
            schema.setdefault("description", asked.response_format.description)
        body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
    return body | {key: value for key, value in given.items() if value is not None and value not in ((), [])}


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _thinking(reasoning: Reasoning, max_tokens: int | None, claude: Claude) -> dict[str, Any]:
    """How much it thinks; on a budget of tokens where the model takes no effort."""
    if reasoning.effort == "none":
        return {"thinking": {"type": "disabled"}}
    shown = {} if reasoning.shown is None else {"display": "summarized" if reasoning.shown else "omitted"}
    if claude.adapts:
        effort = effort_of(reasoning)
        config = {"output_config": {"effort": _EFFORTS.get(effort, effort)}} if effort else {}
        return {"thinking": {"type": "adaptive", **shown}, **config}
    budget = budget_of(reasoning)
    if max_tokens is None:
        return {
            "max_tokens": budget + claude.max_tokens,
            "thinking": {"type": "enabled", "budget_tokens": budget, **shown},
        }
    if reasoning.budget_tokens is None:  # an effort leaves room for the answer
        budget = min(budget, max(MIN_BUDGET_TOKENS, max_tokens // 2))
    return {"thinking": {"type": "enabled", "budget_tokens": budget, **shown}}


def _turns(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The turns: those of one speaker after another are one, and the results of tools are the user's."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts if (block := _block(part)) is not None]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:  # a turn that says nothing is none, and refused
            turns.append({"role": role, "content": blocks})
    return turns


def _block(part: Part) -> dict[str, Any] | None:
    """One block; `None` for a text without words, which is refused."""
    match part:
        case Text():
            return _text(part)
        case Refusal():
            return {"type": "text", "text": part.text} if part.text else None
        case Image():
            return {"type": "image", "source": _image(part)} | _mark(part.cache)
        case File():
            return _document(part)
        case Thinking() if part.redacted:
            return {"type": "redacted_thinking", "data": own(part.signature, VENDOR)}
        case Thinking():
            return {"type": "thinking", "thinking": part.text, "signature": own(part.signature, VENDOR)}
        case ToolCall():
            return call_of(part) | _mark(part.cache)
        case ToolResult():
            return _result(part)


def _text(part: Part) -> dict[str, Any] | None:
    if not isinstance(part, Text) or not part.text:
        return None
    return {"type": "text", "text": part.text} | _mark(part.cache)


def _mark(mark: CacheMark | None) -> dict[str, Any]:
    if mark is None:
        return {}
    return {"cache_control": {"type": "ephemeral"} | ({"ttl": mark.ttl} if mark.ttl else {})}


def _image(part: Image) -> dict[str, Any]:
    if part.data:
        return {"type": "base64", "media_type": part.media_type, "data": part.data}
    return {"type": "url", "url": part.url}


def _document(part: File) -> dict[str, Any]:
    text = _document_text(part)
    if part.url:
        source = {"type": "url", "url": part.url}
    elif text is None:
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    else:
        source = {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "document", "source": source} | ({"title": part.name} if part.name else {}) | _mark(part.cache)


def _document_text(part: File) -> str | None:
    """What a document says that is text; `None` for any other."""
    if not part.media_type.startswith("text/"):
        return None
    try:
        return b64decode(part.data, validate=True).decode()
    except ValueError:
        return None


def id_of(text: str) -> str:
    """The id of a call, in the letters that Anthropic takes."""
    return _NOT_OF_AN_ID.sub("_", text)


def call_of(part: ToolCall) -> dict[str, Any]:
    """A call. Its arguments are an object here; what is none has a place that Anthropic names."""
    try:
        given: object = orjson.loads(part.arguments.strip() or "{}")
    except orjson.JSONDecodeError:
        given = None
    input_ = cast("dict[str, Any]", given) if isinstance(given, dict) else {INVALID_JSON: part.arguments}
    return {"type": "tool_use", "id": id_of(part.id), "name": part.name, "input": input_}


def _result(part: ToolResult) -> dict[str, Any]:
    blocks = [block for each in part.parts if (block := _block(each)) is not None]
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": id_of(part.id)}
    if blocks:
        result["content"] = blocks
    if part.is_error:
        result["is_error"] = True
    return result | _mark(part.cache)


def _tool(tool: Tool) -> dict[str, Any]:
    written: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters or NO_PARAMETERS}
    if tool.description:
        written["description"] = tool.description
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written | _mark(tool.cache)


def _tool_choice(asked: Conversation) -> dict[str, Any] | None:
    if not asked.tools:  # there is nothing to choose from, and a choice is refused
        return None
    choice = asked.tool_choice
    one_at_a_time = asked.parallel_tool_calls is False
    if choice is None and not one_at_a_time:
        return None
    choice = choice or ToolChoice("auto")
    if choice.kind == "none":
        return {"type": "none"}
    written = {"type": "tool", "name": choice.name} if choice.kind == "tool" else {"type": _CHOICES[choice.kind]}
    return written | ({"disable_parallel_tool_use": True} if one_at_a_time else {})
