"""A client as a package of its own: the last candidate of a model, who has a kind word where nobody else has any.

Installed (``pip install ./examples/apology``), it is there for every configuration document, and `standby check` knows
its name::

    providers:
      nobody: {client: apology, options: {text: "We cannot answer now; please try again in a minute."}}
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import orjson

from standby.clients import Block, ClientError, ClientSettings, ProviderStream, Request, Response, Usage


def from_settings(settings: ClientSettings) -> ApologyClient:
    """What the entry point names: it makes a client of a provider's section of the document."""
    unknown = settings.options.keys() - {"text"}
    text = settings.options.get("text")
    if unknown or not isinstance(text, str) or not text:
        raise ValueError("an apology has one option, `text`: what to say")
    return ApologyClient(text)


class ApologyClient:
    """Says the same to everybody, whole (`send`) or as a stream (`stream`)."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def send(self, request: Request) -> Response:
        _check(request)
        message = {"role": "assistant", "content": self._text}
        data = _said("chat.completion", {"message": message, "finish_reason": "stop"})
        return Response(200, {"content-type": "application/json"}, orjson.dumps(data), data, Usage())

    def stream(self, request: Request) -> AbstractAsyncContextManager[ProviderStream]:
        _check(request)
        return nullcontext(ApologyStream(self._text))

    async def aclose(self) -> None:
        """Nothing is open."""


class ApologyStream:
    """Two events and the end."""

    dropped: tuple[str, ...] = ()
    content_type = "text/event-stream"
    request_id = ""
    finished = True

    def __init__(self, text: str) -> None:
        self.usage: Usage | None = Usage()
        self._blocks = [
            Block(_event({"delta": {"role": "assistant", "content": text}, "finish_reason": None}), content=True),
            Block(_event({"delta": {}, "finish_reason": "stop"}) + b"data: [DONE]\n\n", content=False),
        ]

    def commit(self) -> None:
        """The runner passes on what comes from now on; there is nothing to do about it here."""

    def ending(self) -> None:
        """The end always comes."""

    async def read(self) -> Block | None:
        return self._blocks.pop(0) if self._blocks else None


def _check(request: Request) -> None:
    # A code that policies know: whoever asks for an embedding is better served by anybody else.
    if request.endpoint != "chat/completions":
        message = f"there is no apology for {request.endpoint}"
        raise ClientError("unsupported_parameter", message, status=400, scope="request", work="not_sent")


def _event(choice: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(_said("chat.completion.chunk", choice)) + b"\n\n"


def _said(kind: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-apology", "object": kind, "created": 0, "model": "", "choices": [{"index": 0, **choice}]}
