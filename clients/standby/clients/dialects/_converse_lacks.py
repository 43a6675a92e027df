"""What of a conversation Bedrock's Converse cannot say, though it has a word for the like of it. Pure.

What is found here is refused before it is sent: Bedrock would refuse it with status 400.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, cast

import orjson

from ._converse_request import DOCUMENTS, EFFORTS, IMAGES, RECORDINGS, marks_of, signature_of
from ._features import parts_of
from ._values import Conversation, File, Image, Text, Thinking, ToolCall, ToolResult

__all__ = ["lacks"]

_TIERS: Final = ("default", "flex", "priority", "reserved")
_TTLS: Final = ("5m", "1h")
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
_MAX_METADATA: Final = 16


def lacks(conversation: Conversation) -> dict[str, str]:
    """The features of which this conversation asks more than Converse can, and what that is."""
    found: dict[str, str] = {}
    for check in (_of_numbers, _of_turns, _of_parts, _of_thoughts, _of_tools, _of_the_rest):
        for feature, why in check(conversation):
            found.setdefault(feature, why)
    return found


def _of_numbers(conversation: Conversation) -> Iterator[tuple[str, str]]:
    for name in ("temperature", "top_p"):
        value = getattr(conversation, name)
        if value is not None and not 0 <= value <= 1:
            yield name, "from 0 to 1"
    if conversation.max_tokens is not None and conversation.max_tokens < 1:
        yield "max_tokens", "at least 1"
    if not all(conversation.stop):
        yield "stop", "none that is empty"


def _of_turns(conversation: Conversation) -> Iterator[tuple[str, str]]:
    turns = [message for message in conversation.messages if message.role not in ("system", "developer")]
    if not turns or turns[0].role == "assistant":
        yield "multi_turn", "the user begins"
    for message in conversation.messages:
        kinds = {type(part) for part in message.parts}
        if message.role in ("system", "developer") and kinds - {Text}:
            yield "system", "text alone"
        media = [part for part in message.parts if isinstance(part, Image | File)]
        if message.role == "assistant" and media:
            yield _feature_of(media[0]), "not from the assistant"
        documents = [part for part in media if isinstance(part, File) and part.media_type in DOCUMENTS]
        if documents and not any(isinstance(part, Text) and part.text.strip() for part in message.parts):
            yield _feature_of(documents[0]), "only beside a text"


def _of_parts(conversation: Conversation) -> Iterator[tuple[str, str]]:
    for part in parts_of(conversation):
        match part:
            case Image(data=data, media_type=kind) if data and kind not in IMAGES:
                yield "image_data", _one_of(kind, IMAGES)
            case File(data=data, media_type=kind) if data and kind.startswith("audio/") and kind not in RECORDINGS:
                yield "audio", _one_of(kind, RECORDINGS)
            case File(data=data, media_type=kind) if data and not kind.startswith("audio/") and kind not in DOCUMENTS:
                yield "file_data", _one_of(kind, DOCUMENTS)
            case ToolResult() if any(isinstance(each, File) and each.media_type in RECORDINGS for each in part.parts):
                yield "audio", "not in the result of a tool"
            case ToolCall() if not _is_object(part.arguments):
                yield "tool_results", f"the arguments of {part.id[:100]!r} are no JSON object"
            case _:
                pass
    for marked in (*parts_of(conversation), *conversation.tools):
        for mark in marks_of(marked):
            if mark.ttl and mark.ttl not in _TTLS:
                yield "cache", _one_of(mark.ttl, _TTLS)


def _of_thoughts(conversation: Conversation) -> Iterator[tuple[str, str]]:
    for part in parts_of(conversation):
        others = isinstance(part, Thinking) and part.signature and not signature_of(part)
        if others or (isinstance(part, ToolCall) and part.signature):
            yield "thinking", "those of another vendor"


def _of_tools(conversation: Conversation) -> Iterator[tuple[str, str]]:
    called = [part for part in parts_of(conversation) if isinstance(part, ToolCall | ToolResult)]
    choice = conversation.tool_choice
    if choice is not None and choice.kind == "none" and called:
        yield "tool_choice", "no tools where some were called before"
    if called and not conversation.tools:
        yield "tool_results", "only beside the tools themselves"
    names = (*(tool.name for tool in conversation.tools), *(part.name for part in called if isinstance(part, ToolCall)))
    for name in names:
        if not _TOOL_NAME.fullmatch(name):
            yield "tools", f"{name[:100]!r} is not of letters, digits, _ and -, at most 64"


def _of_the_rest(conversation: Conversation) -> Iterator[tuple[str, str]]:
    form, tier, reasoning = conversation.response_format, conversation.service_tier, conversation.reasoning
    if form is not None and form.kind == "json_schema" and form.schema is None:
        yield "json_schema", "not without the schema"
    if tier is not None and tier not in _TIERS:
        yield "service_tier", _one_of(tier, _TIERS)
    if reasoning is not None and reasoning.effort not in ("", "none", *EFFORTS):
        yield "reasoning", _one_of(reasoning.effort, ("none", *EFFORTS))
    metadata = conversation.metadata or {}
    if len(metadata) > _MAX_METADATA:
        yield "metadata", f"at most {_MAX_METADATA} pairs"
    for key, value in metadata.items():
        if not (key and _METADATA.fullmatch(key) and _METADATA.fullmatch(value)):
            yield "metadata", f"{key[:100]!r}: letters, digits, white space and :_@$#=/+,.- only, at most 256"


def _feature_of(part: Image | File) -> str:
    if isinstance(part, Image):
        return "image_data"
    return "audio" if part.media_type.startswith("audio/") else "file_data"


def _one_of(found: str, allowed: Iterable[str]) -> str:
    return f"{found[:100]!r} is not among {', '.join(allowed)}"


def _is_object(text: str) -> bool:
    try:
        return isinstance(cast("object", orjson.loads(text or "{}")), dict)
    except orjson.JSONDecodeError:
        return False
