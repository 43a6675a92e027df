"""The dialects of callers and providers, as pure functions over the values of a conversation."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Final, cast

from ._features import ANSWERS, FEATURES, Feature, fitted, parts_of, unsupported
from ._protocols import Dialect, Frames, InvalidRequest, NotAnAnswer, Reader, Wire, Writer
from ._values import (
    Answer,
    Begun,
    CacheMark,
    Choice,
    Conversation,
    Counted,
    Delta,
    File,
    Finish,
    Finished,
    Image,
    Logprob,
    LogprobsDelta,
    Message,
    Part,
    Reasoning,
    Refusal,
    RefusalDelta,
    ResponseFormat,
    Role,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallBegun,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
)

__all__ = [
    "ANSWERS",
    "FEATURES",
    "Answer",
    "Begun",
    "CacheMark",
    "Choice",
    "Conversation",
    "Counted",
    "Delta",
    "Dialect",
    "Feature",
    "File",
    "Finish",
    "Finished",
    "Frames",
    "Image",
    "InvalidRequest",
    "Logprob",
    "LogprobsDelta",
    "Message",
    "NotAnAnswer",
    "Part",
    "Reader",
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
    "Wire",
    "Writer",
    "dialect_of",
    "fitted",
    "parts_of",
    "unsupported",
]

_DIALECTS: Final = {
    "chat/completions": ("_chat", "CHAT"),
    "messages": ("_messages", "MESSAGES"),
    "responses": ("_responses", "RESPONSES"),
}
"""By endpoint: the module and the name of what reads a request to it and writes its answer."""


@functools.cache
def dialect_of(endpoint: str) -> Dialect | None:
    """What a caller speaks who calls ``endpoint``; `None` where only the endpoint's own vendor understands it."""
    place = _DIALECTS.get(endpoint.strip("/"))
    if place is None:
        return None
    module, name = place
    return cast("Dialect", getattr(import_module(f".{module}", __name__), name))
