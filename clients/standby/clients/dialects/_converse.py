"""Converse, the API of Amazon Bedrock: one form for the models of many vendors. Only ever a provider's.

Written from the service's own description, which botocore carries (``bedrock-runtime``), and from
docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import _converse_answer, _converse_lacks, _converse_request
from ._converse_stream import ConverseReader, EventStreamFrames
from ._protocols import Frames, Reader, Wire
from ._values import Answer, Conversation

__all__ = ["CONVERSE"]

_ANTHROPIC: Final = "models of Anthropic"
_SUPPORTS: Final[Mapping[str, str]] = {
    "system": "told at the start, wherever they stood",
    "developer": "as system messages",
    **dict.fromkeys(("multi_turn", "image_data", "tool_media", "tools", "parallel_calls", "tool_results"), ""),
    "file_data": "under a name that Bedrock takes",
    "audio": "models that hear",
    "thinking": "",
    "cache": "models that cache",
    "tool_errors": "models of Anthropic and Amazon",
    "tool_strict": "models that keep to schemas",
    "tool_choice": "`none` leaves the tools out, and is refused where some were called before",
    "json_schema": "models that keep to schemas",
    **dict.fromkeys(("stop", "temperature", "top_p", "max_tokens"), ""),
    "top_k": _ANTHROPIC,
    "reasoning": "the effort, where a model takes it; else models of Anthropic",
    "metadata": "as `requestMetadata`",
    "service_tier": "`default`, `flex`, `priority`, `reserved`",
    **dict.fromkeys(("answer_text", "answer_tool_calls", "answer_thinking", "answer_signature", "answer_finish"), ""),
    "answer_stop_sequence": _ANTHROPIC,
    **dict.fromkeys(("answer_usage", "answer_cached_tokens", "answer_cache_write_tokens"), ""),
}


class _Converse:
    """Bedrock's Converse."""

    name: str = "bedrock"
    supports: Mapping[str, str] = _SUPPORTS

    def lacks(self, conversation: Conversation) -> Mapping[str, str]:
        return _converse_lacks.lacks(conversation)

    def written(self, conversation: Conversation, model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - in the address
        return _converse_request.written(conversation)

    def read(self, data: Mapping[str, Any]) -> Answer:
        return _converse_answer.read(data)

    def frames(self) -> Frames:
        return EventStreamFrames()

    def reader(self) -> Reader:
        return ConverseReader()


CONVERSE: Final[Wire] = _Converse()
"""What Bedrock speaks."""
