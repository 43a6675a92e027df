"""Whose API a provider of the demonstration speaks: how it says a text, whole or word by word, and that it failed.

They say what the vendors say, and not more than the demonstration needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

__all__ = ["ANTHROPIC", "GEMINI", "OPENAI", "Vendor"]

_ASKED_TOKENS: Final = 3
_CREATED: Final = 1_700_000_000


class Vendor(Protocol):
    """One vendor's API.

    Attributes:
        client: The name of the client that speaks it.
        path: What the address of a provider ends in.
    """

    client: str
    path: str

    def wants_stream(self, path: str, asked: Mapping[str, Any]) -> bool:
        """Whether a request asks for a stream."""
        ...

    def said(self, text: str, model: str) -> dict[str, Any]:
        """A whole answer."""
        ...

    def begun(self, model: str) -> bytes:
        """How a stream begins: nothing of it is content."""
        ...

    def word(self, text: str, model: str) -> bytes:
        """More of the text of a stream."""
        ...

    def over(self, text: str, model: str) -> bytes:
        """How a stream ends that said ``text``."""
        ...

    def failed(self, status: int, message: str, kind: str) -> dict[str, Any]:
        """An error."""
        ...


class _OpenAI:
    client: str = "openai"
    path: str = "/v1"

    def wants_stream(self, path: str, asked: Mapping[str, Any]) -> bool:  # noqa: ARG002 - the body says it
        return bool(asked.get("stream"))

    def said(self, text: str, model: str) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
        usage = {
            "prompt_tokens": _ASKED_TOKENS,
            "completion_tokens": _tokens(text),
            "total_tokens": _ASKED_TOKENS + _tokens(text),
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
        return {**self._head(model, "chat.completion"), "choices": [choice], "usage": usage}

    def begun(self, model: str) -> bytes:
        return self._chunk(model, {"role": "assistant", "content": "", "refusal": None})

    def word(self, text: str, model: str) -> bytes:
        return self._chunk(model, {"content": text})

    def over(self, text: str, model: str) -> bytes:  # noqa: ARG002 - it counts where it is asked to, and is not
        return self._chunk(model, {}, "stop") + b"data: [DONE]\n\n"

    def failed(self, status: int, message: str, kind: str) -> dict[str, Any]:  # noqa: ARG002 - the kind says it
        return {"error": {"message": message, "type": kind, "param": None, "code": kind}}

    def _head(self, model: str, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-fake", "object": kind, "created": _CREATED, "model": model}

    def _chunk(self, model: str, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**self._head(model, "chat.completion.chunk"), "choices": [choice]})


class _Anthropic:
    client: str = "anthropic"
    path: str = ""

    def wants_stream(self, path: str, asked: Mapping[str, Any]) -> bool:  # noqa: ARG002 - the body says it
        return bool(asked.get("stream"))

    def said(self, text: str, model: str) -> dict[str, Any]:
        usage = {"input_tokens": _ASKED_TOKENS, "output_tokens": _tokens(text)}
        content = [{"type": "text", "text": text}]
        return self._message(model) | {"content": content, "stop_reason": "end_turn", "usage": usage}

    def begun(self, model: str) -> bytes:
        block = {"type": "text", "text": ""}
        message = self._message(model)
        return _named("message_start", message=message) + _named("content_block_start", index=0, content_block=block)

    def word(self, text: str, model: str) -> bytes:  # noqa: ARG002 - the beginning said it
        return _named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def over(self, text: str, model: str) -> bytes:  # noqa: ARG002 - as above
        why = {"stop_reason": "end_turn", "stop_sequence": None}
        counted = _named("message_delta", delta=why, usage={"output_tokens": _tokens(text)})
        return _named("content_block_stop", index=0) + counted + _named("message_stop")

    def failed(self, status: int, message: str, kind: str) -> dict[str, Any]:  # noqa: ARG002 - the kind says it
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"}

    def _message(self, model: str) -> dict[str, Any]:
        return {
            "id": "msg_fake",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": _ASKED_TOKENS, "output_tokens": 1},
        }


class _Gemini:
    client: str = "gemini"
    path: str = "/v1beta"

    def wants_stream(self, path: str, asked: Mapping[str, Any]) -> bool:  # noqa: ARG002 - the address says it
        return ":streamGenerateContent" in path

    def said(self, text: str, model: str) -> dict[str, Any]:
        return self._response(text, model, "STOP") | self._counted(text)

    def begun(self, model: str) -> bytes:
        return _event({**self._head(model), "usageMetadata": {"promptTokenCount": _ASKED_TOKENS}})

    def word(self, text: str, model: str) -> bytes:
        return _event(self._response(text, model))

    def over(self, text: str, model: str) -> bytes:
        return _event(self._response("", model, "STOP") | self._counted(text))

    def failed(self, status: int, message: str, kind: str) -> dict[str, Any]:
        return {"error": {"code": status, "message": message, "status": kind}}

    def _head(self, model: str) -> dict[str, Any]:
        return {"responseId": "fake", "modelVersion": model}

    def _response(self, text: str, model: str, reason: str | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
        if reason is not None:
            candidate["finishReason"] = reason
        return {**self._head(model), "candidates": [candidate]}

    def _counted(self, text: str) -> dict[str, Any]:
        tokens = _tokens(text)
        counts = {"promptTokenCount": _ASKED_TOKENS, "candidatesTokenCount": tokens}
        return {"usageMetadata": {**counts, "totalTokenCount": _ASKED_TOKENS + tokens}}


def _tokens(text: str) -> int:
    return len(text.split())


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _named(kind: str, **more: Any) -> bytes:
    return b"event: " + kind.encode() + b"\n" + _event({"type": kind, **more})


OPENAI: Final[Vendor] = _OpenAI()
ANTHROPIC: Final[Vendor] = _Anthropic()
GEMINI: Final[Vendor] = _Gemini()
