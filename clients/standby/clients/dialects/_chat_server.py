"""What one server's chat completions have, lack and call by other names than OpenAI's own: data, and how it is applied.

The same is done to a translated request and to one that a caller of chat completions sent; the latter is written anew
only where there is something to change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from ._chat_lacking import INSIDE, asked_inside
from ._chat_request import asks_for_nothing
from ._reading import as_object, as_objects, as_text

__all__ = ["OPENAI", "ChatServer", "asks", "keys_of", "nine_letters"]

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "max_tokens": ("max_completion_tokens", "max_tokens"),
    "reasoning": ("reasoning_effort", "reasoning"),
    "logprobs": ("logprobs", "top_logprobs"),
    "user": ("user", "safety_identifier"),
    "json_object": ("response_format",),
    "json_schema": ("response_format",),
    "tools": ("tools", "tool_choice", "parallel_tool_calls"),
    # What stands in messages has no key of the body.
    **dict.fromkeys(("system", "developer", "multi_turn", "names", "image_data", "image_url", "image_detail"), ()),
    **dict.fromkeys(("file_data", "file_url", "file_id", "thinking", "cache", "parallel_calls", "tool_results"), ()),
    **dict.fromkeys(("tool_media", "tool_errors", "tool_strict"), ()),
}


def keys_of(feature: str) -> tuple[str, ...]:
    """Under which keys of a body a feature is asked for; what is no feature is a key itself."""
    return _KEYS.get(feature, (feature,))


def asks(feature: str, key: str, value: object) -> bool:
    """Whether a key of a body asks for a feature."""
    if key == "response_format" and feature != key:
        return as_object(value).get("type") == feature
    return not asks_for_nothing(key, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatServer:
    """One server.

    Attributes:
        name: Its name in the table of features.
        pages: Where all of this is said.
        has: Features that OpenAI's own does not have, each with a remark.
        lacks: Features, and keys of a body, that OpenAI's own has and this one does not.
        keys: What it calls keys of a body, by OpenAI's names.
        roles: What it calls roles.
        max_stops: How many stop sequences it takes.
        max_temperature: How hot it may be.
        thinks_in_full: Whether thoughts have OpenRouter's forms: with signatures, and with a budget and whether to show
            them beside the effort.
        shows_thoughts: Whether answers have thoughts; `None` where that can be asked for.
        takes_parts: Whether a content that is nothing but text may be in parts.
        call_id: What an id of a call must be like.
        counts_when_asked: Whether a stream may be asked to count tokens; others do so unasked.
        responses: Whether it has OpenAI's Responses as well.
    """

    name: str
    pages: tuple[str, ...]
    has: Mapping[str, str] = field(default_factory=dict[str, str])
    lacks: Collection[str] = ()
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    max_stops: int = 4
    max_temperature: float = 2.0
    thinks_in_full: bool = False
    shows_thoughts: bool | None = True
    takes_parts: bool = True
    call_id: Callable[[str], str] | None = None
    counts_when_asked: bool = True
    responses: bool = False

    def missing(self, body: Mapping[str, Any]) -> Iterator[str]:
        """What is asked for in a body that this server does not have: features, and keys of the body."""
        for name in self.lacks:
            has_key = any(asks(name, key, body[key]) for key in keys_of(name) if key in body)
            if has_key or (name in INSIDE and asked_inside(name, body)):
                yield name

    def adjusted(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A body as this server has it; the same one where there is nothing to change."""
        changes: dict[str, Any] = {}
        messages = body.get("messages")
        if isinstance(messages, list):
            changed = [self._message(each) for each in cast("list[object]", messages)]
            if any(new is not old for new, old in zip(changed, cast("list[object]", messages), strict=True)):
                changes["messages"] = changed
        renamed = {key for key in self.keys if key in body}
        if not self.counts_when_asked and "stream_options" in body:
            renamed.add("stream_options")
        if not changes and not renamed:
            return body
        kept = {key: value for key, value in body.items() if key not in renamed}
        return kept | {self.keys[key]: body[key] for key in renamed if key in self.keys} | changes

    def _message(self, message: object) -> object:
        told = as_object(message)
        changes: dict[str, Any] = {}
        if (role := as_text(told.get("role"))) in self.roles:
            changes["role"] = self.roles[role]
        if not self.takes_parts and (text := _only_text(told.get("content"))) is not None:
            changes["content"] = text
        if self.call_id is not None:
            changes |= _with_ids(told, self.call_id)
        return told | changes if changes else message


def _only_text(content: object) -> str | None:
    """The text of a content in parts; `None` where there is something else in it, or no part."""
    parts = as_objects(content)
    if not parts or not all(part.get("type") == "text" for part in parts):
        return None
    return "\n\n".join(as_text(part.get("text")) for part in parts)


def _with_ids(message: Mapping[str, Any], call_id: Callable[[str], str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if told := as_text(message.get("tool_call_id")):
        changes["tool_call_id"] = call_id(told)
    if calls := as_objects(message.get("tool_calls")):
        changes["tool_calls"] = [call | {"id": call_id(as_text(call.get("id")))} for call in calls]
    return {key: value for key, value in changes.items() if value != message[key]}


def nine_letters(call_id: str) -> str:
    """An id of nine letters and digits, the same one for the same id; one that is so stays as it is."""
    if len(call_id) == _NINE and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:_NINE]


_NINE: Final = 9

OPENAI: Final = ChatServer(
    name="openai",
    pages=("developers.openai.com/api/reference/resources/chat",),
    shows_thoughts=False,
    responses=True,
)
"""OpenAI's own, and every server of which no more is known."""
