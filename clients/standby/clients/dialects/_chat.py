"""OpenAI's chat completions, as a caller's dialect and as what OpenAI's own and compatible servers speak.

From developers.openai.com/api/reference/resources/chat. What OpenAI has no place for is read, and written to callers,
in the forms that others have given it: thoughts as ``reasoning_content`` and ``reasoning_details`` (OpenRouter), the
signature of a call as ``extra_content`` (Google), marks for the cache as ``cache_control`` (Anthropic).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from standby.clients._sse import Event

from ._chat_answer import answer_of, body_of_answer
from ._chat_body import body_of
from ._chat_parts import AUDIO_FORMATS
from ._chat_request import conversation_of
from ._chat_server import OPENAI, ChatServer
from ._chat_stream import ChatReader, ChatWriter
from ._features import ANSWERS, FEATURES, parts_of
from ._frames import EventFrames
from ._signatures import has_others_thoughts, own
from ._values import Answer, Conversation, File, Part, Thinking

__all__ = ["CHAT", "Chat"]

_NOT_OPENAIS: Final = frozenset({"file_url", "thinking", "cache", "tool_media", "tool_errors", "top_k"})
_REMARKS: Final = {"audio": "wav and mp3", "file_id": "of the same vendor", "reasoning": "as an effort"}
_NOT_TOLD_BY_OPENAI: Final = frozenset({"answer_thinking", "answer_signature", "answer_stop_sequence"})


class Chat:
    """The codec of one server; it has no state.

    Args:
        server: What it does otherwise than OpenAI's own.
        may_end_without_finish: Whether a stream that just ends is complete.
    """

    def __init__(self, server: ChatServer = OPENAI, *, may_end_without_finish: bool = False) -> None:
        self.name = server.name
        self.supports = _supported(server)
        self._server = server
        self._signer = server.name if server.thinks_in_full else ""
        self._may_end_without_finish = may_end_without_finish

    # -- what a provider speaks

    def lacks(self, conversation: Conversation) -> Mapping[str, str]:
        """What of this conversation the server cannot do, and why."""
        return dict(_out_of_range(conversation, self._server))

    def written(self, conversation: Conversation, model: str, *, stream: bool) -> bytes:
        """The body to send."""
        if self._signer:
            conversation = _as_signed_by(self._signer, conversation)
        body = body_of(conversation, model, stream=stream, in_full=self._server.thinks_in_full)
        return orjson.dumps(self._server.adjusted(body))

    def read(self, data: Mapping[str, Any]) -> Answer:
        """A whole answer.

        Raises:
            NotAnAnswer: It is none.
        """
        return answer_of(data, self._signer)

    def frames(self) -> EventFrames:
        """Takes a stream's bytes apart."""
        return _OpenEnd() if self._may_end_without_finish else EventFrames()

    def reader(self) -> ChatReader:
        """Reads one stream."""
        return ChatReader(self._signer)

    # -- what a caller speaks

    def conversation(self, data: Mapping[str, Any]) -> Conversation:
        """What a request says.

        Raises:
            InvalidRequest: It is not of this dialect.
        """
        return conversation_of(data)

    def answered(self, answer: Answer, conversation: Conversation) -> Mapping[str, Any]:  # noqa: ARG002 - needs no more
        """The body of a whole answer."""
        return body_of_answer(answer)

    def writer(self, conversation: Conversation) -> ChatWriter:
        """Writes one stream."""
        return ChatWriter(conversation)


class _OpenEnd(EventFrames):
    """Of a server whose streams just end: that is then their last event."""

    def rest(self) -> list[Event]:
        """What is left, and the end."""
        return [*super().rest(), Event(b"[DONE]", "message")]


def _supported(server: ChatServer) -> Mapping[str, str]:
    remarks = {**_REMARKS, "stop": f"up to {server.max_stops}", "temperature": f"up to {server.max_temperature:g}"}
    every = (*(feature.name for feature in FEATURES), *ANSWERS)
    lacks = (_NOT_OPENAIS | _NOT_TOLD_BY_OPENAI | frozenset(server.lacks)) - server.has.keys()
    return {name: server.has.get(name, remarks.get(name, "")) for name in every if name not in lacks}


def _out_of_range(conversation: Conversation, server: ChatServer) -> Iterator[tuple[str, str]]:
    if len(conversation.stop) > server.max_stops:
        yield "stop", f"no more than {server.max_stops}"
    if (conversation.temperature or 0) > server.max_temperature:
        yield "temperature", f"no more than {server.max_temperature:g}"
    if any(isinstance(part, File) and not _can_be_heard(part) for part in parts_of(conversation)):
        yield "audio", "wav or mp3, in base64"
    if server.thinks_in_full and has_others_thoughts(conversation, server.name):
        yield "thinking", "those of another vendor"
    shown = None if conversation.reasoning is None else conversation.reasoning.shown
    if shown is not None and server.shows_thoughts is not None and shown is not server.shows_thoughts:
        yield "reasoning", "does not show its thoughts" if shown else "shows its thoughts"


def _as_signed_by(signer: str, conversation: Conversation) -> Conversation:
    """With the signatures as the signer knows them."""

    def bare(part: Part) -> Part:
        return replace(part, signature=own(part.signature, signer)) if isinstance(part, Thinking) else part

    messages = (replace(message, parts=tuple(map(bare, message.parts))) for message in conversation.messages)
    return replace(conversation, messages=tuple(messages))


def _can_be_heard(part: File) -> bool:
    return not part.media_type.startswith("audio/") or (bool(part.data) and part.media_type in AUDIO_FORMATS)


CHAT: Final = Chat()
