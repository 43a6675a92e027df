"""What a conversation can ask for, and what of it a provider cannot do: refused before anything is sent, or left out.

Each feature knows whether a conversation asks for it, and what the conversation is without it. A wire's `supports` says
which it has; `docs/providers.md` has the table of both, made from here. What is left out is named, so that the record
of the run can say so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from standby.clients._errors import ClientError

from ._protocols import Wire
from ._values import Conversation, File, Image, Message, Part, Text, Thinking, Tool, ToolCall, ToolResult

T = TypeVar("T")

__all__ = ["ANSWERS", "FEATURES", "Feature", "fitted", "parts_of"]


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that a conversation may ask for.

    Attributes:
        name: As the operator writes it under ``drop``.
        says: What it is, for the table.
        asked: Whether a conversation asks for it.
        without: The conversation without it; `None` where it would be no conversation any more.
    """

    name: str
    says: str
    asked: Callable[[Conversation], bool]
    without: Callable[[Conversation], Conversation] | None


def parts_of(conversation: Conversation) -> Iterator[Part]:
    """Every part of every message, those in the results of tools too."""
    for message in conversation.messages:
        for part in message.parts:
            yield part
            if isinstance(part, ToolResult):
                yield from part.parts


def _of_field(name: str, says: str, nothing: object = None) -> Feature:
    return Feature(
        name,
        says,
        lambda conversation: getattr(conversation, name) != nothing,
        lambda conversation: _changed(conversation, **{name: nothing}),
    )


def _changed(value: T, **changes: Any) -> T:
    """`replace`, where the names of the fields are known when it runs and not before."""
    return replace(cast("Any", value), **changes)  # type: ignore[no-any-return]


def _of_parts(name: str, says: str, is_meant: Callable[[Part], bool]) -> Feature:
    return Feature(
        name,
        says,
        lambda conversation: any(map(is_meant, parts_of(conversation))),
        lambda conversation: _without_parts(conversation, is_meant),
    )


def _without_parts(conversation: Conversation, is_meant: Callable[[Part], bool]) -> Conversation:
    """Without a kind of part. A message that would have nothing left in it is left out with it."""

    def kept(part: Part) -> Part | None:
        if is_meant(part):
            return None
        if isinstance(part, ToolResult) and any(map(is_meant, part.parts)):
            return replace(part, parts=tuple(each for each in part.parts if not is_meant(each)))
        return part

    messages: list[Message] = []
    for message in conversation.messages:
        parts = tuple(left for part in message.parts if (left := kept(part)) is not None)
        if parts or not message.parts:
            messages.append(replace(message, parts=parts))
    return replace(conversation, messages=tuple(messages))


def _is_audio(part: Part) -> bool:
    return isinstance(part, File) and part.media_type.startswith("audio/")


def _is_document(part: Part) -> bool:
    return isinstance(part, File) and not _is_audio(part)


def _is_image(part: Part) -> bool:
    return isinstance(part, Image)


def _has_media(part: Part) -> bool:
    return isinstance(part, ToolResult) and not all(isinstance(each, Text) for each in part.parts)


def _thought(conversation: Conversation) -> bool:
    return any(
        isinstance(part, Thinking) or (isinstance(part, ToolCall) and bool(part.signature))
        for part in parts_of(conversation)
    )


def _without_thoughts(conversation: Conversation) -> Conversation:
    unsigned = _parts(conversation, lambda part: replace(part, signature="") if isinstance(part, ToolCall) else part)
    return _without_parts(unsigned, lambda part: isinstance(part, Thinking))


def _marks(conversation: Conversation) -> Iterator[object]:
    for each in (*parts_of(conversation), *conversation.tools):
        yield getattr(each, "cache", None)


def _without_marks(conversation: Conversation) -> Conversation:
    def bare(part: Part) -> Part:
        return part if getattr(part, "cache", None) is None else _changed(part, cache=None)

    return replace(_parts(conversation, bare), tools=_tools(conversation, cache=None))


def _tools(conversation: Conversation, **changes: Any) -> tuple[Tool, ...]:
    return tuple(replace(tool, **changes) for tool in conversation.tools)


def _messages(conversation: Conversation, change: Callable[[Message], Message]) -> Conversation:
    return replace(conversation, messages=tuple(map(change, conversation.messages)))


def _parts(conversation: Conversation, change: Callable[[Part], Part]) -> Conversation:
    """With other parts, those in the results of tools too."""

    def changed(part: Part) -> Part:
        if isinstance(part, ToolResult):
            inner = cast("tuple[Text | Image | File, ...]", tuple(map(change, part.parts)))
            part = replace(part, parts=inner)
        return change(part)

    return _messages(conversation, lambda message: replace(message, parts=tuple(map(changed, message.parts))))


def _of_format(kind: str, says: str) -> Feature:
    return Feature(
        kind,
        says,
        lambda conversation: conversation.response_format is not None and conversation.response_format.kind == kind,
        lambda conversation: replace(conversation, response_format=None),
    )


def _calls_in_one_turn(conversation: Conversation) -> bool:
    return any(sum(isinstance(part, ToolCall) for part in message.parts) > 1 for message in conversation.messages)


FEATURES: Final[tuple[Feature, ...]] = (
    # -- turns
    Feature(
        "system",
        "system messages",
        lambda conversation: any(message.role == "system" for message in conversation.messages),
        None,
    ),
    Feature(
        "developer",
        "developer messages",
        lambda conversation: any(message.role == "developer" for message in conversation.messages),
        None,
    ),
    Feature("multi_turn", "several turns", lambda conversation: len(conversation.messages) > 1, None),
    Feature(
        "names",
        "names of speakers",
        lambda conversation: any(message.name for message in conversation.messages),
        lambda conversation: _messages(conversation, lambda message: replace(message, name="")),
    ),
    # -- what is in them
    _of_parts("image_data", "images, in base64", lambda part: isinstance(part, Image) and bool(part.data)),
    _of_parts("image_url", "images, by address", lambda part: isinstance(part, Image) and bool(part.url)),
    _of_parts("file_data", "documents, in base64", lambda part: _is_document(part) and bool(getattr(part, "data", ""))),
    _of_parts("file_url", "documents, by address", lambda part: _is_document(part) and bool(getattr(part, "url", ""))),
    _of_parts("file_id", "documents that the vendor keeps", lambda part: isinstance(part, File) and bool(part.file_id)),
    _of_parts("audio", "recordings", _is_audio),
    Feature(
        "image_detail",
        "how closely to look at images",
        lambda conversation: any(isinstance(part, Image) and part.detail for part in parts_of(conversation)),
        lambda conversation: _parts(conversation, lambda part: _changed(part, detail="") if _is_image(part) else part),
    ),
    Feature("thinking", "earlier thoughts, and the signatures of thoughts and calls", _thought, _without_thoughts),
    Feature(
        "cache", "marks for the prompt cache", lambda conversation: any(map(bool, _marks(conversation))), _without_marks
    ),
    # -- tools
    _of_field("tools", "tools", ()),
    Feature("parallel_calls", "several calls of tools in one turn", _calls_in_one_turn, None),
    Feature(
        "tool_results",
        "calls of tools and their results",
        lambda conversation: any(isinstance(part, ToolResult) for part in parts_of(conversation)),
        None,
    ),
    Feature(
        "tool_media",
        "images and documents in the results of tools",
        lambda conversation: any(map(_has_media, parts_of(conversation))),
        lambda conversation: _parts(
            conversation,
            lambda part: (
                replace(part, parts=tuple(each for each in part.parts if isinstance(each, Text)))
                if isinstance(part, ToolResult)
                else part
            ),
        ),
    ),
    Feature(
        "tool_errors",
        "results that say that the tool failed",
        lambda conversation: any(isinstance(part, ToolResult) and part.is_error for part in parts_of(conversation)),
        lambda conversation: _parts(
            conversation,
            lambda part: replace(part, is_error=False) if isinstance(part, ToolResult) else part,
        ),
    ),
    Feature(
        "tool_strict",
        "arguments that must keep to their schema",
        lambda conversation: any(tool.strict for tool in conversation.tools),
        lambda conversation: replace(conversation, tools=_tools(conversation, strict=None)),
    ),
    _of_field("tool_choice", "`tool_choice`: auto, none, required, a named one"),
    _of_field("parallel_tool_calls", "`parallel_tool_calls`"),
    # -- what comes out
    _of_format("json_object", "JSON mode"),
    _of_format("json_schema", "a JSON schema"),
    _of_field("stop", "stop sequences", ()),
    _of_field("temperature", "`temperature`"),
    _of_field("top_p", "`top_p`"),
    _of_field("top_k", "`top_k`"),
    _of_field("max_tokens", "a bound on the answer's tokens"),
    _of_field("seed", "`seed`"),
    _of_field("n", "several answers"),
    _of_field("frequency_penalty", "`frequency_penalty`"),
    _of_field("presence_penalty", "`presence_penalty`"),
    _of_field("logit_bias", "`logit_bias`"),
    _of_field("logprobs", "how likely tokens are"),
    _of_field("reasoning", "how much to think"),
    _of_field("verbosity", "`verbosity`"),
    # -- about the call
    _of_field("user", "the caller's own user"),
    _of_field("metadata", "`metadata`"),
    _of_field("service_tier", "`service_tier`"),
)

ANSWERS: Final[Mapping[str, str]] = {
    "answer_text": "text",
    "answer_tool_calls": "calls of tools, several too",
    "answer_thinking": "thoughts",
    "answer_signature": "signatures of thoughts",
    "answer_refusal": "refusals",
    "answer_logprobs": "how likely tokens are",
    "answer_finish": "why it ended",
    "answer_stop_sequence": "which stop sequence ended it",
    "answer_usage": "tokens",
    "answer_cached_tokens": "tokens read from the cache",
    "answer_cache_write_tokens": "tokens written to the cache",
    "answer_reasoning_tokens": "tokens of thoughts",
    "answer_id": "its id",
}
"""What an answer can tell, plain and streamed, by its name in a wire's `supports`."""

_BY_NAME: Final = {feature.name: feature for feature in FEATURES}


def fitted(conversation: Conversation, wire: Wire, drop: Collection[str]) -> tuple[Conversation, tuple[str, ...]]:
    """The conversation as ``wire`` can carry it, and the names of what was left out for that.

    Args:
        conversation: What is asked.
        wire: What the provider speaks.
        drop: What may be left out: features, and keys of the caller's dialect.

    Raises:
        ClientError: ``unsupported_parameter`` for what the wire cannot carry and nobody said may be left out.
    """
    asked = [feature for feature in FEATURES if feature.name not in wire.supports and feature.asked(conversation)]
    missing = dict.fromkeys((*(feature.name for feature in asked), *conversation.extra), "")
    # What goes away is not asked whether it is out of range, and neither is what goes with it.
    left = _without(conversation, missing.keys() & set(drop))
    gone = {feature.name for feature in asked if feature.name not in drop and not feature.asked(left)}
    if lacks := wire.lacks(left):
        missing |= lacks
        left = _without(left, lacks.keys() & set(drop))
    missing = {name: why for name, why in missing.items() if name not in gone}
    if not missing:
        return conversation, ()
    refused = {name: why for name, why in missing.items() if name not in drop or not _can_go(name, conversation)}
    if refused:
        raise unsupported(wire.name, refused)
    return replace(left, extra={}), tuple(missing)


def _without(conversation: Conversation, names: Collection[str]) -> Conversation:
    for feature in FEATURES:
        if feature.name in names and feature.without is not None:
            conversation = feature.without(conversation)
    return conversation


def unsupported(name: str, missing: Mapping[str, str]) -> ClientError:
    """The refusal of what a provider cannot do; nothing was sent."""
    told = ", ".join(f"{feature} ({why})" if why else feature for feature, why in missing.items())
    return ClientError(
        "unsupported_parameter",
        f"{name} cannot do what is asked: {told}",
        status=400,
        scope="request",
        work="not_sent",
        vendor={"param": next(iter(missing))},
    )


def _can_go(name: str, conversation: Conversation) -> bool:
    feature = _BY_NAME.get(name)
    return name in conversation.extra if feature is None else feature.without is not None
