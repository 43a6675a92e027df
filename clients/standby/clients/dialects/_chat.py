"""OpenAI's chat completions, as a caller's dialect and as what OpenAI's own server speaks.

From developers.openai.com/api/reference/resources/chat. What OpenAI has no place for is read, and written to callers,
in the forms that others have given it: thoughts as ``reasoning_content`` and ``reasoning_details`` (OpenRouter), the
signature of a call as ``extra_content`` (Google), marks for the cache as ``cache_control`` (Anthropic).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from ._chat_answer import answer_of, body_of_answer
from ._chat_body import body_of
from ._chat_parts import AUDIO_FORMATS
from ._chat_request import conversation_of
from ._chat_stream import ChatReader, ChatWriter
from ._features import ANSWERS, FEATURES, parts_of
from ._frames import EventFrames
from ._values import Answer, Conversation, File

__all__ = ["CHAT", "Chat"]

_NOT_OPENAIS: Final = frozenset({"file_url", "thinking", "cache", "tool_media", "tool_errors", "top_k"})
_REMARKS: Final = {
    "audio": "wav and mp3",
    "file_id": "of the same vendor",
    "stop": "up to 4",
    "temperature": "up to 2",
    "reasoning": "how hard, not how many tokens",
}
_TELLS: Final = frozenset(ANSWERS) - {"answer_thinking", "answer_signature", "answer_stop_sequence"}
_MAX_STOPS: Final = 4
_MAX_TEMPERATURE: Final = 2.0


class Chat:
    """The codec; it has no state."""

    name = "openai"
    supports: Mapping[str, str] = {
        name: _REMARKS.get(name, "")
        for name in (*(feature.name for feature in FEATURES if feature.name not in _NOT_OPENAIS), *sorted(_TELLS))
    }

    # -- what a provider speaks

    def lacks(self, conversation: Conversation) -> Mapping[str, str]:
        """What of this conversation OpenAI cannot do, and why."""
        return dict(_out_of_range(conversation))

    def written(self, conversation: Conversation, model: str, *, stream: bool) -> bytes:
        """The body to send."""
        if conversation.reasoning is not None:  # whose thoughts are never shown
            conversation = replace(conversation, reasoning=replace(conversation.reasoning, shown=None))
        return orjson.dumps(body_of(conversation, model, stream=stream))

    def read(self, data: Mapping[str, Any]) -> Answer:
        """A whole answer.

        Raises:
            NotAnAnswer: It is none.
        """
        return answer_of(data)

    def frames(self) -> EventFrames:
        """Takes a stream's bytes apart."""
        return EventFrames()

    def reader(self) -> ChatReader:
        """Reads one stream."""
        return ChatReader()

    # -- what a caller speaks

    def conversation(self, data: Mapping[str, Any]) -> Conversation:
        """What a request says.

        Raises:
            InvalidRequest: It is none.
        """
        return conversation_of(data)

    def answered(self, answer: Answer, conversation: Conversation) -> Mapping[str, Any]:  # noqa: ARG002 - needs no more
        """The body of a whole answer."""
        return body_of_answer(answer)

    def writer(self, conversation: Conversation) -> ChatWriter:
        """Writes one stream."""
        return ChatWriter(conversation)


def _out_of_range(conversation: Conversation) -> Iterator[tuple[str, str]]:
    if len(conversation.stop) > _MAX_STOPS:
        yield "stop", f"no more than {_MAX_STOPS}"
    if (conversation.temperature or 0) > _MAX_TEMPERATURE:
        yield "temperature", f"no more than {_MAX_TEMPERATURE:g}"
    if any(isinstance(part, File) and not _can_be_heard(part) for part in parts_of(conversation)):
        yield "audio", "wav or mp3, in base64"
    wanted = conversation.reasoning
    if wanted is not None and wanted.budget_tokens is not None:
        yield "reasoning", "takes no number of tokens"
    elif wanted is not None and wanted.shown:
        yield "reasoning", "does not show its thoughts"


def _can_be_heard(part: File) -> bool:
    return not part.media_type.startswith("audio/") or (bool(part.data) and part.media_type in AUDIO_FORMATS)


CHAT: Final = Chat()
