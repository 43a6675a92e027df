"""A request to Anthropic's Messages, read.

What asks for nothing is nothing: a parameter at the value that it has when it is left out. What no other dialect has is
kept under its own name, wherever in the request it stood.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from . import _given as given
from ._protocols import InvalidRequest
from ._reading import Fields
from ._signatures import marked
from ._values import (
    CacheMark,
    Conversation,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    ResponseFormat,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

__all__ = ["INVALID_JSON", "conversation_of"]

VENDOR: Final = "anthropic"
"""Whose the signatures are."""

INVALID_JSON: Final = "INVALID_JSON"
"""Under what Anthropic wants the arguments of a call that are no JSON object:
platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming."""

NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
"""The schema of a tool that takes nothing."""

_ROLES: Final[Mapping[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}
_CHOICES: Final[Mapping[str, ToolChoice | None]] = {
    "auto": None,
    "none": ToolChoice("none"),
    "any": ToolChoice("required"),
}
_TIERS: Final[Mapping[str, str | None]] = {"auto": None, "standard_only": "default"}
_NOTHING: Final[Mapping[str, tuple[object, ...]]] = {
    "allowed_callers": (["direct"],),
    "caller": ({"type": "direct"},),
    "citations": ({"enabled": False},),
    "speed": ("standard",),
}


def conversation_of(data: Mapping[str, Any]) -> Conversation:
    """What a request says.

    Raises:
        InvalidRequest: It is none.
    """
    asked, extra = Fields(data), dict[str, Any]()
    asked.take("model")
    asked.take("stream")
    messages = _marked((*_system(asked, extra), *_turns(asked, extra)), _mark(asked))
    choice, in_parallel = _tool_choice(asked)
    effort, form = _output_config(asked, extra)
    conversation = Conversation(
        messages=messages,
        tools=tuple(_tools(asked, extra)),
        tool_choice=choice,
        parallel_tool_calls=in_parallel,
        response_format=form,
        stop=tuple(_stops(asked)),
        temperature=asked.number("temperature"),
        top_p=asked.number("top_p"),
        top_k=asked.whole("top_k"),
        max_tokens=asked.needed("max_tokens", given.whole),
        reasoning=_reasoning(asked, effort, extra),
        user=_user(asked, extra),
        service_tier=_TIERS[asked.one_of("service_tier", _TIERS) or "auto"],
        extra=extra,
    )
    _keep(asked, extra)
    return conversation


def _keep(fields: Fields, extra: dict[str, Any]) -> None:
    """Note what nobody took, unless it asks for nothing."""
    left = fields.rest().items()
    extra.update({key: value for key, value in left if value is not False and value not in _NOTHING.get(key, ())})


# -- messages ----------------------------------------------------------------------------------------------------


def _system(asked: Fields, extra: dict[str, Any]) -> Iterator[Message]:
    if parts := asked.said("system", _content(extra)):
        yield Message("system", parts)


def _turns(asked: Fields, extra: dict[str, Any]) -> Iterator[Message]:
    for place, value in asked.needed("messages", given.items):
        fields = Fields(given.mapping(value, place), place)
        role = fields.needed("role", _one_of(_ROLES))
        parts = fields.needed("content", _content(extra))
        _keep(fields, extra)
        yield from _user_turn(parts) if role == "user" else (Message(_ROLES[role], parts),)


def _user_turn(parts: tuple[Part, ...]) -> Iterator[Message]:
    """A user's turn: the results of tools, which are a turn of their own elsewhere, and the rest."""
    said: list[Part] = []
    spoke: Role = "user"
    for part in parts:
        speaks: Role = "tool" if isinstance(part, ToolResult) else "user"
        if said and speaks != spoke:
            yield Message(spoke, tuple(said))
            said = []
        spoke = speaks
        said.append(part)
    yield Message(spoke, tuple(said))


def _content(extra: dict[str, Any]) -> Callable[[object, str], tuple[Part, ...]]:
    """Takes what is said: a text, or a list of blocks."""

    def take(value: object, where: str) -> tuple[Part, ...]:
        if isinstance(value, str):
            return (Text(value),) if value else ()
        blocks = [Fields(given.mapping(block, place), place) for place, block in given.items(value, where)]
        return tuple(part for block in blocks if (part := _part(block, extra)) is not None)

    return take


def _one_of(allowed: Collection[str]) -> Callable[[object, str], str]:
    return lambda value, where: given.one_of(value, allowed, where)


def _part(block: Fields, extra: dict[str, Any]) -> Part | None:
    """One block; `None`, and noted in ``extra``, for a kind that no other dialect has."""
    kind, mark = block.needed_text("type"), _mark(block)
    part: Part | None = None
    match kind:
        case "text":
            part = Text(block.needed_text("text"), mark)
        case "image":
            part = _image(block.needed_fields("source"), mark)
        case "document":
            part = _document(block, mark, extra)
        case "thinking":
            part = Thinking(block.needed_text("thinking"), _signature(block.text("signature") or ""))
        case "redacted_thinking":
            part = Thinking("", _signature(block.needed_text("data")), redacted=True)
        case "tool_use":
            part = ToolCall(block.needed_text("id"), block.needed_text("name"), _arguments(block), cache=mark)
        case "tool_result":
            part = _result(block, mark, extra)
        case _:
            extra[kind] = block.rest()
            return None
    _keep(block, extra)
    return part


def _signature(text: str) -> str:
    """A signature with the name of its vendor: Anthropic's have none here."""
    return text if ":" in text else marked(text, VENDOR)


def _mark(fields: Fields) -> CacheMark | None:
    mark = fields.fields("cache_control")
    return None if mark is None else CacheMark(mark.text("ttl") or "")


def _marked(messages: tuple[Message, ...], mark: CacheMark | None) -> tuple[Message, ...]:
    """A mark of the whole request stands at the last place that can have one."""
    if mark is None:
        return messages
    for index in reversed(range(len(messages))):
        parts = messages[index].parts
        for place in reversed(range(len(parts))):
            part = parts[place]
            if isinstance(part, Text | Image | File | ToolCall | ToolResult):
                changed = (*parts[:place], replace(part, cache=mark), *parts[place + 1 :])
                return (*messages[:index], replace(messages[index], parts=changed), *messages[index + 1 :])
    return messages


def _image(source: Fields, mark: CacheMark | None) -> Image | File:
    match source.needed("type", _one_of(("base64", "url", "file"))):
        case "base64":
            return Image(data=source.needed_text("data"), media_type=source.needed_text("media_type"), cache=mark)
        case "url":
            return Image(url=source.needed_text("url"), cache=mark)
        case _:
            return File(file_id=source.needed_text("file_id"), cache=mark)


def _document(block: Fields, mark: CacheMark | None, extra: dict[str, Any]) -> File | None:
    source, name = block.needed_fields("source"), block.text("title") or ""
    match source.needed("type", _one_of(("base64", "text", "url", "file", "content"))):
        case "base64":
            media_type = source.needed_text("media_type")
            return File(data=source.needed_text("data"), media_type=media_type, name=name, cache=mark)
        case "text":
            data = b64encode(source.needed_text("data").encode()).decode()
            return File(data=data, media_type="text/plain", name=name, cache=mark)
        case "url":
            return File(url=source.needed_text("url"), media_type="application/pdf", name=name, cache=mark)
        case "file":
            return File(file_id=source.needed_text("file_id"), name=name, cache=mark)
        case _:  # a document in blocks, to be cited block by block
            extra["document.content"] = source.take("content")
            return None


def _arguments(block: Fields) -> str:
    said = block.mapping("input") or {}
    unread = said.get(INVALID_JSON)
    return unread if len(said) == 1 and isinstance(unread, str) else orjson.dumps(said).decode()


def _result(block: Fields, mark: CacheMark | None, extra: dict[str, Any]) -> ToolResult:
    said = block.said("content", _content(extra)) or ()
    parts = tuple(part for part in said if isinstance(part, Text | Image | File))
    if len(parts) < len(said):
        place = block.place("content")
        raise InvalidRequest(f"{place} may have texts, images and documents only", place)
    return ToolResult(block.needed_text("tool_use_id"), parts, block.flag("is_error") or False, cache=mark)


# -- the rest ----------------------------------------------------------------------------------------------------


def _tools(asked: Fields, extra: dict[str, Any]) -> Iterator[Tool]:
    for tool in asked.each("tools"):
        kind = tool.text("type") or "custom"
        if kind != "custom":
            extra[f"tools.{kind}"] = tool.rest()
            continue
        schema = tool.needed("input_schema", given.mapping)
        yield Tool(
            tool.needed_text("name"),
            tool.text("description") or "",
            None if schema == NO_PARAMETERS else schema,
            tool.flag("strict"),
            _mark(tool),
        )
        _keep(tool, extra)


def _tool_choice(asked: Fields) -> tuple[ToolChoice | None, bool | None]:
    fields = asked.fields("tool_choice")
    if fields is None:
        return None, None
    in_parallel = False if fields.flag("disable_parallel_tool_use") else None
    kind = fields.needed("type", _one_of((*_CHOICES, "tool")))
    if kind == "tool":
        return ToolChoice("tool", fields.needed_text("name")), in_parallel
    return _CHOICES[kind], in_parallel


def _stops(asked: Fields) -> Iterator[str]:
    for place, stop in asked.said("stop_sequences", given.items) or ():
        yield given.text(stop, place)


def _output_config(asked: Fields, extra: dict[str, Any]) -> tuple[str, ResponseFormat | None]:
    form, effort = asked.fields("output_format"), ""  # the name that it had in its beta
    config = asked.fields("output_config")
    if config is not None:
        effort, form = config.text("effort") or "", config.fields("format") or form
        _keep(config, extra)
    if form is None:
        return effort, None
    form.needed("type", _one_of(("json_schema",)))
    return effort, ResponseFormat("json_schema", schema=form.needed("schema", given.mapping), strict=True)


def _reasoning(asked: Fields, effort: str, extra: dict[str, Any]) -> Reasoning | None:
    fields = asked.fields("thinking")
    if fields is None:
        return Reasoning(effort) if effort else None
    kind = fields.needed_text("type")
    if kind == "disabled":
        if effort:
            extra["output_config.effort"] = effort
        return Reasoning("none")
    if kind not in ("enabled", "adaptive"):
        extra[f"thinking.{kind}"] = fields.rest()
        return Reasoning(effort) if effort else None
    budget = fields.needed("budget_tokens", given.whole) if kind == "enabled" else None
    display = fields.one_of("display", ("summarized", "omitted"))
    _keep(fields, extra)
    return Reasoning(effort, budget, None if display is None else display == "summarized")


def _user(asked: Fields, extra: dict[str, Any]) -> str | None:
    metadata = asked.fields("metadata")
    if metadata is None:
        return None
    user = metadata.text("user_id")
    _keep(metadata, extra)
    return user
