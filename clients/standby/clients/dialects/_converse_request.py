"""A conversation as a request of Bedrock's Converse. Pure; `_converse_lacks.py` says what cannot be written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from ._messages_request import VENDOR
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
    ToolResult,
)

__all__ = ["DOCUMENTS", "EFFORTS", "IMAGES", "RECORDINGS", "marks_of", "written"]

IMAGES: Final = {f"image/{name}": name for name in ("png", "jpeg", "gif", "webp")} | {"image/jpg": "jpeg"}
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    f"{_OFFICE}.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    f"{_OFFICE}.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
RECORDINGS: Final = {
    **{f"audio/{name}": name for name in ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "m4a", "webm")},
    "audio/mpeg": "mp3",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
}
EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_NO_PARAMETERS: Final[Mapping[str, object]] = {"type": "object", "properties": {}}
_SHOWN: Final = {True: "summarized", False: "omitted"}

_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,5}$")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9()\[\]-]+")
_MAX_NAME: Final = 180  # of 200; a number may be added


# -- what is written ---------------------------------------------------------------------------------------------


def written(conversation: Conversation) -> bytes:
    """The body of a request."""
    names = _Names()
    body = {
        "messages": _turns(conversation.messages, names),
        "system": [block for message in _instructions(conversation) for block in _blocks(message.parts, names)],
        "inferenceConfig": _said(
            maxTokens=conversation.max_tokens,
            temperature=conversation.temperature,
            topP=conversation.top_p,
            stopSequences=conversation.stop or None,
        ),
        "toolConfig": _tool_config(conversation),
        "outputConfig": _output_config(conversation),
        "additionalModelRequestFields": _said(
            top_k=conversation.top_k,
            thinking=None if conversation.reasoning is None else _thinking(conversation.reasoning),
        ),
        # Which stop sequence it was only Anthropic's models say, and only when asked; others pass over the question.
        "additionalModelResponseFieldPaths": ["/stop_sequence"] if conversation.stop else None,
        "requestMetadata": conversation.metadata,
        "serviceTier": {"type": conversation.service_tier} if conversation.service_tier else None,
    }
    return orjson.dumps({key: value for key, value in body.items() if value})


def _said(**fields: object) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value is not None}


def _instructions(conversation: Conversation) -> Iterator[Message]:
    """What is told to the model, and not asked: Converse has one place for it, before all turns."""
    return (message for message in conversation.messages if message.role in ("system", "developer"))


def _turns(messages: Iterable[Message], names: _Names) -> list[dict[str, Any]]:
    """The turns of user and assistant, who must alternate; results of tools are the user's."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message.parts, names)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(parts: Iterable[Part], names: _Names) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in parts:
        block = _block(part, names)
        if block is not None:
            blocks.append(block)
        if blocks:
            blocks += map(_cache_point, marks_of(part))
    return blocks


def signature_of(thought: Thinking) -> str:
    """What Bedrock knows a thought by; nothing for those of others. Who signs thoughts there is Claude."""
    return own(thought.signature, VENDOR) or own(thought.signature)


def _block(part: Part, names: _Names) -> dict[str, Any] | None:
    """A part as a block; `None` for a text of nothing, which Converse refuses."""
    match part:
        case Text() | Refusal():
            return {"text": part.text} if part.text.strip() else None
        case Thinking(redacted=True):
            return {"reasoningContent": {"redactedContent": signature_of(part)}}
        case Thinking():
            signature = {"signature": signature_of(part)} if part.signature else {}
            return {"reasoningContent": {"reasoningText": {"text": part.text, **signature}}}
        case Image():
            return {"image": {"format": IMAGES[part.media_type], "source": {"bytes": part.data}}}
        case File(media_type=kind) if kind in RECORDINGS:
            return {"audio": {"format": RECORDINGS[kind], "source": {"bytes": part.data}}}
        case File():
            document = {"format": DOCUMENTS[part.media_type], "name": names.of(part.name)}
            return {"document": {**document, "source": {"bytes": part.data}}}
        case ToolCall():
            # As it was written: numbers of any size stay what they are.
            arguments = orjson.Fragment(part.arguments or "{}")
            return {"toolUse": {"toolUseId": _call_id(part.id), "name": part.name, "input": arguments}}
        case ToolResult():
            content = [block for each in part.parts if (block := _block(each, names)) is not None]
            status = {"status": "error"} if part.is_error else {}
            return {"toolResult": {"toolUseId": _call_id(part.id), "content": content, **status}}


def _call_id(given: str) -> str:
    """The id of a call; one that other vendors made may be of a form that Converse refuses."""
    return given if _CALL_ID.fullmatch(given) else f"call_{hashlib.sha256(given.encode()).hexdigest()[:32]}"


def marks_of(part: Part | Tool) -> Iterator[CacheMark]:
    """A mark of the part; one inside of a tool's result is taken for one after it, where Converse has a place."""
    inner = [each.cache for each in part.parts] if isinstance(part, ToolResult) else []
    found = [mark for mark in (*inner, getattr(part, "cache", None)) if mark is not None]
    yield from found[-1:]


def _cache_point(mark: CacheMark) -> dict[str, Any]:
    return {"cachePoint": {"type": "default", **({"ttl": mark.ttl} if mark.ttl else {})}}


def _tool_config(conversation: Conversation) -> dict[str, Any] | None:
    choice = conversation.tool_choice
    if not conversation.tools or (choice is not None and choice.kind == "none"):
        return None
    tools: list[dict[str, Any]] = []
    for tool in conversation.tools:
        spec = _said(
            name=tool.name,
            description=tool.description or None,
            inputSchema={"json": tool.parameters or _NO_PARAMETERS},
            strict=tool.strict,
        )
        tools += [{"toolSpec": spec}, *map(_cache_point, marks_of(tool))]
    if choice is None:
        return {"tools": tools}
    if choice.kind == "tool":
        return {"tools": tools, "toolChoice": {"tool": {"name": choice.name}}}
    return {"tools": tools, "toolChoice": {"any" if choice.kind == "required" else "auto": {}}}


def _output_config(conversation: Conversation) -> dict[str, object]:
    form, reasoning = conversation.response_format, conversation.reasoning
    text_format = None
    if form is not None:
        schema = _said(
            schema=orjson.dumps(form.schema).decode(), name=form.name or None, description=form.description or None
        )
        text_format = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    effort = reasoning.effort if reasoning is not None and reasoning.effort in EFFORTS else None
    return _said(textFormat=text_format, effort=effort)


def _thinking(reasoning: Reasoning) -> dict[str, object] | None:
    """How Anthropic's models are to think; `None` where the effort says it all."""
    if reasoning.effort == "none":
        return {"type": "disabled"}
    shown = {} if reasoning.shown is None else {"display": _SHOWN[reasoning.shown]}
    if reasoning.budget_tokens is not None:
        return {"type": "enabled", "budget_tokens": reasoning.budget_tokens, **shown}
    return {"type": "adaptive", **shown} if shown or not reasoning.effort else None


class _Names:
    """The names of a request's documents: of few characters, and no two alike."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def of(self, name: str) -> str:
        plain = _NOT_IN_NAMES.sub(" ", _EXTENSION.sub("", name)).strip()[:_MAX_NAME].strip() or "document"
        key = plain.lower()
        while True:
            number = self._numbers[key] = self._numbers.get(key, 0) + 1
            found = plain if number == 1 else f"{plain} {number}"
            if found.lower() not in self._taken:
                self._taken.add(found.lower())
                return found
