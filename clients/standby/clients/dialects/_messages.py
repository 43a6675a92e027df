"""Anthropic's Messages, spoken by callers and by providers.

Written from platform.claude.com/docs/en/api/messages and the pages on streaming, thinking, effort, structured outputs,
prompt caching and tools beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from ._claude import Claude, claude_of
from ._frames import EventFrames
from ._messages_answer import answer_of, message_of
from ._messages_body import body_of, lacks
from ._messages_request import conversation_of
from ._messages_stream import MessagesReader, MessagesWriter
from ._values import Answer, Conversation

__all__ = ["MESSAGES", "Messages", "messages_for"]

_SUPPORTS: Final[Mapping[str, str]] = {
    "system": "all of them stand before the first turn",
    "developer": "as system messages",
    "multi_turn": "turns of one speaker after another are one",
    "image_data": "JPEG, PNG, GIF, WebP",
    "image_url": "",
    "file_data": "PDF, text",
    "file_url": "PDF",
    "thinking": "Anthropic's own only: the signature is checked",
    "cache": "at most 4 marks",
    "tools": "",
    "parallel_calls": "",
    "tool_results": "",
    "tool_media": "",
    "tool_errors": "",
    "tool_strict": "",
    "tool_choice": "while it thinks: auto, none",
    "parallel_tool_calls": "",
    "json_schema": "always strict; its name is not sent",
    "stop": "not white space alone",
    "temperature": "0 to 1; not from Claude 4.7 on",
    "top_p": "not beside temperature from Claude 4.1 on; not from 4.7 on",
    "top_k": "not while it thinks; not from Claude 4.7 on",
    "max_tokens": "where nobody says: 8,192, and the budget for thoughts; 32,768 from Claude 4.6 on",
    "reasoning": "an effort from Claude 4.6 on; before a budget: low 2,048, medium 8,192, high 16,384, xhigh 23,552",
    "user": "`metadata.user_id`",
    "service_tier": "default, which is standard_only there",
    "answer_text": "",
    "answer_tool_calls": "",
    "answer_thinking": "",
    "answer_signature": "",
    "answer_refusal": "`stop_details.explanation`",
    "answer_finish": "",
    "answer_stop_sequence": "",
    "answer_usage": "",
    "answer_cached_tokens": "",
    "answer_cache_write_tokens": "",
    "answer_reasoning_tokens": "",
    "answer_id": "",
}


class Messages:
    """Anthropic's Messages, for one generation of its models where that is known."""

    name = "anthropic"
    supports = _SUPPORTS

    def __init__(self, claude: Claude = Claude()) -> None:  # noqa: B008 - a value
        self._claude = claude

    # -- as a provider's wire ----------------------------------------------------------------------------------

    def lacks(self, conversation: Conversation) -> Mapping[str, str]:
        """Which features of this conversation it cannot do though it has them, and why."""
        return lacks(conversation, self._claude)

    def written(self, conversation: Conversation, model: str, *, stream: bool) -> bytes:
        """The body to send."""
        return orjson.dumps(body_of(conversation, model, claude_of(model), stream=stream))

    def read(self, data: Mapping[str, Any]) -> Answer:
        """A whole answer.

        Raises:
            NotAnAnswer: It is not of this dialect.
        """
        return answer_of(data)

    def frames(self) -> EventFrames:
        """Takes a stream's bytes apart."""
        return EventFrames()

    def reader(self) -> MessagesReader:
        """Reads one stream."""
        return MessagesReader()

    # -- as a caller's dialect ---------------------------------------------------------------------------------

    def conversation(self, data: Mapping[str, Any]) -> Conversation:
        """What a request says.

        Raises:
            InvalidRequest: It is not of this dialect.
        """
        return conversation_of(data)

    def answered(self, answer: Answer, conversation: Conversation) -> Mapping[str, Any]:  # noqa: ARG002 - others ask it
        """The body of a whole answer."""
        return message_of(answer)

    def writer(self, conversation: Conversation) -> MessagesWriter:  # noqa: ARG002 - as above
        """Writes one stream."""
        return MessagesWriter()


MESSAGES: Final = Messages()


@lru_cache(64)
def _messages_of(claude: Claude) -> Messages:
    return Messages(claude)


def messages_for(model: str) -> Messages:
    """The wire of a model."""
    return _messages_of(claude_of(model))
