"""What is said between a caller and a model, in no vendor's words: a conversation, its answer, and a stream of it.

Every dialect is read into these values and written from them, so that each needs to know itself alone. They hold what
at least two vendors mean alike. What only one dialect has is kept in `Conversation.extra` by its own name: nobody else
can be asked for it, so it is refused, or left out where the operator says so, and never lost silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from standby.clients._protocols import Usage

__all__ = [
    "Answer",
    "Begun",
    "CacheMark",
    "Choice",
    "Conversation",
    "Counted",
    "Delta",
    "File",
    "Finish",
    "Finished",
    "Image",
    "Logprob",
    "LogprobsDelta",
    "Message",
    "Part",
    "Reasoning",
    "Refusal",
    "RefusalDelta",
    "ResponseFormat",
    "Role",
    "SignatureDelta",
    "Text",
    "TextDelta",
    "Thinking",
    "ThinkingDelta",
    "Tool",
    "ToolCall",
    "ToolCallBegun",
    "ToolCallDelta",
    "ToolChoice",
    "ToolResult",
]

# -- what is asked -----------------------------------------------------------------------------------------------

Role = Literal["system", "developer", "user", "assistant", "tool"]
"""Who speaks. A ``tool`` message has nothing but results of tools."""


@dataclass(frozen=True, slots=True)
class CacheMark:
    """What comes before this place, it included, is worth being cached. ``ttl`` is the vendor's word for how long."""

    ttl: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    text: str
    cache: CacheMark | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: where it is, or what it is.

    Attributes:
        url: Its address; empty where ``data`` is given.
        data: Its bytes in base64.
        media_type: Of ``data``, such as ``image/png``.
        detail: How closely to look: ``low``, ``high``, ``auto``; empty where nothing was said.
    """

    url: str = ""
    data: str = ""
    media_type: str = ""
    detail: str = ""
    cache: CacheMark | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A document or a recording: where it is, what it is, or the vendor's own id of it.

    Attributes:
        url: Its address.
        data: Its bytes in base64.
        media_type: Such as ``application/pdf`` or ``audio/wav``.
        name: Its name; empty where it has none.
        file_id: Under what the vendor keeps it: nobody else has that.
    """

    url: str = ""
    data: str = ""
    media_type: str = ""
    name: str = ""
    file_id: str = ""
    cache: CacheMark | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool.

    Attributes:
        id: By what its result refers to it.
        name: The tool.
        arguments: A JSON object, as text.
        signature: What the vendor wants back with it (Gemini's ``thoughtSignature``).
    """

    id: str
    name: str
    arguments: str
    signature: str = ""
    cache: CacheMark | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a tool.

    Attributes:
        id: The call's.
        parts: `Text`, `Image` and `File`.
        is_error: Whether the tool failed.
    """

    id: str
    parts: tuple[Text | Image | File, ...]
    is_error: bool = False
    cache: CacheMark | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the model thought.

    Attributes:
        text: In words, or as a summary; empty where it is hidden.
        signature: What the vendor wants back with it.
        redacted: Whether the thought is encrypted; it is then in ``signature``.
    """

    text: str
    signature: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model declines, in its own words."""

    text: str


Part = Text | Image | File | ToolCall | ToolResult | Thinking | Refusal


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``name`` is the speaker's; empty where it has none."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for.

    Attributes:
        name: Its name.
        description: What it does.
        parameters: A JSON schema; `None` where it takes nothing.
        strict: Whether the arguments must keep to the schema; `None` where nothing was said.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    cache: CacheMark | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools are to be asked for: as the model likes, not at all, at least one, or the one named."""

    kind: Literal["auto", "none", "required", "tool"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The answer is to be JSON: any object, or one that keeps to a schema."""

    kind: Literal["json_object", "json_schema"]
    name: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much to think before answering.

    Attributes:
        effort: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh`` or ``max``; empty where none was named.
        budget_tokens: How many tokens the thoughts may have.
        shown: Whether the thoughts, or a summary of them, are wanted in the answer; `None` where nothing was said.
    """

    effort: str = ""
    budget_tokens: int | None = None
    shown: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a caller asks of a model. `None` is what was not said.

    Attributes:
        messages: The turns so far; system and developer messages stand where they were written.
        logprobs: How many alternatives of each token are wanted beside the one chosen; `None` for none at all.
        user: The vendor's caller's own user, as an opaque id.
        include_usage: Whether a stream is to end with a count of tokens, where that must be asked for.
        extra: What no other dialect has, by its own name.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: int | None = None
    reasoning: Reasoning | None = None
    verbosity: str | None = None
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    service_tier: str | None = None
    include_usage: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


# -- what is answered --------------------------------------------------------------------------------------------

Finish = Literal["stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause"]
"""Why a choice ended: said all, met a stop sequence, out of tokens, wants tools, was filtered, declines, goes on."""


@dataclass(frozen=True, slots=True)
class Logprob:
    """How likely a token was.

    Attributes:
        top: The likeliest tokens in its place, each with its own; empty unless asked for.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of those that were asked for: `Text`, `Thinking`, `ToolCall` and `Refusal`, in the order said."""

    parts: tuple[Text | Thinking | ToolCall | Refusal, ...]
    finish: Finish
    stop_sequence: str = ""
    logprobs: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        id: The vendor's own; empty where it gives none.
        model: The name of the model that answered, in the vendor's words.
        usage: What was counted; `None` where nothing was.
        created: When, in seconds since the epoch; 0 where that was not said.
    """

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int = 0


# -- a stream of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begun:
    """The answer begins; comes first, and once."""

    id: str
    model: str
    created: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More words."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of a thought."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class SignatureDelta:
    """The thought is over, and this belongs to it; ``redacted``: it is all there is of it."""

    signature: str
    redacted: bool = False
    choice: int = 0


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """More of a refusal."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallBegun:
    """A tool is asked for; its arguments follow. ``index`` counts the calls of a choice from 0."""

    index: int
    id: str
    name: str
    signature: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the arguments of the call ``index``."""

    index: int
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class LogprobsDelta:
    """How likely the next tokens of the text are; comes right after their `TextDelta`."""

    logprobs: tuple[Logprob, ...]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """A choice is complete."""

    finish: Finish
    stop_sequence: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """The tokens, as far as they are counted; the last one said is right."""

    usage: Usage


Delta = (
    Begun
    | TextDelta
    | ThinkingDelta
    | SignatureDelta
    | RefusalDelta
    | ToolCallBegun
    | ToolCallDelta
    | LogprobsDelta
    | Finished
    | Counted
)
