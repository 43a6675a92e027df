"""Every kind of vendor: what it understands and how it answers, whatever its own forms are called."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

from standby.clients.dialects import Answer, Conversation
from tests.vendors import anthropic, bedrock, gemini, openai

FAILURES = ("bad_request", "rate_limit", "server_error", "overloaded")
"""What can be the matter, in nobody's words."""

Failed = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Vendor:
    """A kind of vendor.

    Attributes:
        name: Its wire's.
        model: A model that knows all of its features.
        module: How it understands and answers.
        failed: An answer that tells of a failure, by its name in `FAILURES`: status, headers, body.
        failed_in_stream: The same as an event of a stream.
        stream_type: The media type of its streams.
    """

    name: str
    model: str
    module: ModuleType
    failed: Callable[[str], Failed]
    failed_in_stream: Callable[[str], bytes]
    stream_type: str = "text/event-stream"

    def conversation_of(self, content: bytes) -> Conversation:
        """What a request asks."""
        return self.module.conversation_of(json.loads(content))

    def asks_for_stream(self, path: str, content: bytes) -> bool:
        """Whether a request wants its answer as a stream: its address says it, or its body."""
        address = path.partition("?")[0]
        return address.endswith(("streamGenerateContent", "converse-stream")) or bool(json.loads(content).get("stream"))

    def answer(self, answer: Answer) -> bytes:
        """A whole answer."""
        return json.dumps(self.module.body_of(answer)).encode()

    def stream(self, answer: Answer) -> bytes:
        """The same as a stream."""
        return self.module.stream_of(answer)


MESSAGES = {
    "bad_request": "This is no request.",
    "rate_limit": "Too many requests.",
    "server_error": "Something broke.",
    "overloaded": "Overloaded, try again later.",
}


def _openai_failed(kind: str) -> Failed:
    statuses = {"bad_request": 400, "rate_limit": 429, "server_error": 500, "overloaded": 503}
    status, headers, body = openai.error_of(statuses[kind], MESSAGES[kind])
    return status, headers, json.dumps(body).encode()


def _openai_failed_in_stream(kind: str) -> bytes:
    return b"data: " + _openai_failed(kind)[2] + b"\n\n"


def _anthropic_failed(kind: str) -> Failed:
    statuses = {"bad_request": 400, "rate_limit": 429, "server_error": 500, "overloaded": 529}
    status, headers, body = anthropic.error_of(statuses[kind], MESSAGES[kind])
    return status, headers, json.dumps(body).encode()


def _anthropic_failed_in_stream(kind: str) -> bytes:
    return b"event: error\ndata: " + _anthropic_failed(kind)[2] + b"\n\n"


def _gemini_failed(kind: str) -> Failed:
    statuses = {"bad_request": 400, "rate_limit": 429, "server_error": 500, "overloaded": 503}
    body = gemini.error_of(statuses[kind], MESSAGES[kind])
    return statuses[kind], {"content-type": "application/json"}, json.dumps(body).encode()


def _gemini_failed_in_stream(kind: str) -> bytes:
    return b"data: " + _gemini_failed(kind)[2] + b"\n\n"


_EXCEPTIONS = {
    "bad_request": "ValidationException",
    "rate_limit": "ThrottlingException",
    "server_error": "InternalServerException",
    "overloaded": "ServiceUnavailableException",
}


def _bedrock_failed(kind: str) -> Failed:
    return bedrock.error_of(_EXCEPTIONS[kind], MESSAGES[kind])


def _bedrock_failed_in_stream(kind: str) -> bytes:
    name = _EXCEPTIONS[kind]
    return bedrock.exception(name[0].lower() + name[1:], MESSAGES[kind])


VENDORS: Mapping[str, Vendor] = {
    vendor.name: vendor
    for vendor in (
        Vendor("openai", "gpt-5", openai, _openai_failed, _openai_failed_in_stream),
        Vendor("anthropic", "claude-opus-4-6", anthropic, _anthropic_failed, _anthropic_failed_in_stream),
        Vendor("gemini", "gemini-3-pro-preview", gemini, _gemini_failed, _gemini_failed_in_stream),
        Vendor(
            "bedrock",
            "anthropic.claude-opus-4-6-v1",
            bedrock,
            _bedrock_failed,
            _bedrock_failed_in_stream,
            "application/vnd.amazon.eventstream",
        ),
    )
}
