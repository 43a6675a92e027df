"""Conversations, answers and streams in the one form in which those are equal that no dialect tells apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeVar

from standby.clients import Usage
from standby.clients.dialects import (
    Answer,
    Begun,
    Choice,
    Conversation,
    Counted,
    Delta,
    File,
    Finished,
    Image,
    Logprob,
    LogprobsDelta,
    Message,
    Refusal,
    RefusalDelta,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallBegun,
    ToolCallDelta,
    ToolResult,
)

Said = TypeVar("Said", Conversation, Answer)


def canonical(said: Said, *forgets: str) -> Said:
    """The canonical form.

    Args:
        said: A conversation or an answer.
        forgets: What this dialect has no word for besides: names of `FORGOTTEN`.
    """
    part_changes = [FORGOTTEN[name] for name in forgets if name in FORGOTTEN]
    unknown = set(forgets) - FORGOTTEN.keys() - _FORGOTTEN_ELSEWHERE
    assert not unknown, unknown
    if isinstance(said, Answer):
        choices = (replace(choice, parts=_parts(choice.parts, part_changes)) for choice in said.choices)
        return replace(said, choices=tuple(choices), created=0 if "created" in forgets else said.created)
    messages = (replace(message, parts=_parts(message.parts, part_changes)) for message in said.messages)
    if "developer" in forgets:
        messages = (replace(each, role="system") if each.role == "developer" else each for each in messages)
    choice, form = said.tool_choice, said.response_format
    if form is not None and "schema_name" in forgets:
        form = replace(form, name="", description="")
    if form is not None and "schema_strict" in forgets:
        form = replace(form, strict=None)
    return replace(
        said,
        messages=_turns(messages),
        tools=tuple(
            replace(tool, parameters=_schema(tool.parameters), strict=tool.strict or None) for tool in said.tools
        ),
        tool_choice=None if choice is not None and choice.kind == "auto" else choice,
        parallel_tool_calls=None if said.parallel_tool_calls else said.parallel_tool_calls,
        response_format=form,
    )


def _plain_refusal(part: Any) -> Any:
    return Text(part.text) if isinstance(part, Refusal) else part


def _without(kind: type | tuple[type, ...], name: str, nothing: Any = "") -> Callable[[Any], Any]:
    return lambda part: replace(part, **{name: nothing}) if isinstance(part, kind) else part


def _without_ttl(part: Any) -> Any:
    cache = getattr(part, "cache", None)
    return part if cache is None else replace(part, cache=replace(cache, ttl=""))


FORGOTTEN: Mapping[str, Callable[[Any], Any]] = {
    "refusal": _plain_refusal,
    "file_name": _without(File, "name"),
    "media_type_of_url": lambda part: (
        replace(part, media_type="") if isinstance(part, File | Image) and part.url else part
    ),
    "cache_ttl": _without_ttl,
    "call_signature": _without(ToolCall, "signature"),
    "thought_signature": _without(Thinking, "signature"),
    "whose_signature": lambda part: (
        replace(part, signature=part.signature.rpartition(":")[2]) if isinstance(part, Thinking) else part
    ),
}
"""What becomes of a part in a dialect without that word: a refusal is said as a text, the rest is gone."""

_FORGOTTEN_ELSEWHERE = {"developer", "schema_name", "schema_strict", "created"}
"""And what is no part: a developer is the system, a schema has no name and description, nobody says when."""


def _parts(parts: Iterable[Any], changes: Iterable[Callable[[Any], Any]]) -> tuple[Any, ...]:
    changed: list[Any] = []
    for part in parts:
        for change in changes:
            part = change(part)  # noqa: PLW2901
        match part:
            case ToolCall():
                part = replace(part, arguments=_same_json(part.arguments))  # noqa: PLW2901
            case ToolResult():
                part = replace(part, parts=_parts(part.parts, changes))  # noqa: PLW2901
            case Text(text="", cache=None):
                continue
            case _:
                pass
        before = changed[-1] if changed else None
        if isinstance(before, Text) and isinstance(part, Text) and before.cache is None:
            changed[-1] = replace(part, text=before.text + part.text)
        else:
            changed.append(part)
    return tuple(changed)


def _turns(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Turns of one speaker are one turn; turns of nothing are none."""
    turns = groupby((message for message in messages if message.parts), lambda message: (message.role, message.name))
    return tuple(
        Message(role, _parts((part for each in group for part in each.parts), ()), name)
        for (role, name), group in turns
    )


def _schema(schema: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """`None` for the schema of an object of which nothing is said."""
    said_nothing = schema is not None and schema.keys() <= {"type", "properties"} and not schema.get("properties")
    return None if said_nothing else schema


def _same_json(text: str) -> str:
    return json.dumps(json.loads(text or "{}"), sort_keys=True)


# -- streams -----------------------------------------------------------------------------------------------------


@dataclass
class _Lane:
    """One choice, as far as it has come."""

    parts: list[Any] = field(default_factory=list)
    calls: dict[int, int] = field(default_factory=dict)
    logprobs: list[Logprob] = field(default_factory=list)
    finished: Finished | None = None
    thought_is_open: bool = False

    def last(self, kind: type[Any]) -> Any:
        return self.parts[-1] if self.parts and isinstance(self.parts[-1], kind) else None

    def take(self, delta: Any) -> None:
        assert self.finished is None, "a choice that is finished goes on"
        match delta:
            case TextDelta(text=text):
                self._grow(Text, text)
            case RefusalDelta(text=text):
                self._grow(Refusal, text)
            case ThinkingDelta(text=text):
                if not self.thought_is_open:
                    self.parts.append(Thinking(""))
                self._grow(Thinking, text)
            case SignatureDelta(signature=signature, redacted=redacted):
                self._sign(signature, redacted=redacted)
            case ToolCallBegun(index=index):
                assert index == len(self.calls), "calls of tools are counted from 0"
                self.calls[index] = len(self.parts)
                self.parts.append(ToolCall(delta.id, delta.name, "", delta.signature))
            case ToolCallDelta(index=index, arguments=more):
                place = self.calls[index]
                self.parts[place] = replace(self.parts[place], arguments=self.parts[place].arguments + more)
            case LogprobsDelta(logprobs=logprobs):
                self.logprobs += logprobs
            case Finished():
                self.finished = delta
        self.thought_is_open = isinstance(delta, ThinkingDelta)

    def _grow(self, kind: type[Any], text: str) -> None:
        last = self.last(kind)
        if last is None:
            self.parts.append(kind(text))
        else:
            self.parts[-1] = replace(last, text=last.text + text)

    def _sign(self, signature: str, *, redacted: bool) -> None:
        if redacted or not self.thought_is_open:
            self.parts.append(Thinking("", signature, redacted))
        else:
            self.parts[-1] = replace(self.parts[-1], signature=signature)

    def choice(self) -> Choice:
        assert self.finished is not None, "a choice has no end"
        return Choice(tuple(self.parts), self.finished.finish, self.finished.stop_sequence, tuple(self.logprobs))


def assembled(deltas: Iterable[Delta]) -> Answer:
    """The answer that a whole stream of deltas tells: it begins once, and each of its choices ends once."""
    begun: Begun | None = None
    usage: Usage | None = None
    lanes: dict[int, _Lane] = {}
    for delta in deltas:
        match delta:
            case Begun():
                assert begun is None, "a stream begins once"
                begun = delta
            case Counted():
                usage = delta.usage
            case _:
                assert begun is not None, "a stream begins before it says anything"
                lanes.setdefault(delta.choice, _Lane()).take(delta)
    assert begun is not None, "a stream begins"
    assert sorted(lanes) == list(range(len(lanes))), "choices are counted from 0"
    choices = tuple(lanes[number].choice() for number in sorted(lanes))
    return Answer(begun.id, begun.model, choices, usage, begun.created)
