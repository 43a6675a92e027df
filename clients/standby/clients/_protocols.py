"""What the runner asks of a provider client, and the values that pass between them.

A client turns a `Request` into one HTTP call and the answer into a `Response`; everything that goes wrong becomes a
`ClientError`. It knows no policy: it never retries, never falls back, never waits for a rate limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, cast, runtime_checkable

import orjson

from ._body import Body
from ._sse import data_in

__all__ = [
    "Block",
    "Chunk",
    "ProviderClient",
    "ProviderStream",
    "Request",
    "Response",
    "StreamingClient",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class Request:
    """One call, as the caller made it.

    Attributes:
        model: The name the caller asked for; a client receives the provider's name of the model here.
        body: A JSON object, or the bytes of one. It is sent untouched but for the value of its ``model`` key.
        endpoint: The path below the provider's base URL.
        headers: Extra headers to send; a client's own win.
        count_tokens: Whether a stream must say what it used, though the caller may not have asked.
    """

    model: str
    body: Body | Mapping[str, Any] | bytes
    endpoint: str = "chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    count_tokens: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the provider counted."""

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Response:
    """One complete answer that kept its promise.

    Attributes:
        status: The HTTP status, 200 to 299.
        headers: The answer's headers, names in lower case.
        content: The answer's bytes, decompressed, as the provider sent them.
        data: The same, decoded: a JSON object.
        usage: What the provider says it counted, where it says so.
        request_id: The vendor's own id of the call, or an empty string.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    data: Mapping[str, Any]
    usage: Usage | None = None
    request_id: str = ""


_NO_CHUNKS: Final = frozenset({b"[DONE]", b""})


class Chunk(NamedTuple):
    """One event of a stream.

    Attributes:
        content: The event's data, as the provider sent it: the bytes of a JSON object.
    """

    content: bytes

    @property
    def data(self) -> Mapping[str, Any]:
        """The same, decoded; anew each time it is asked for."""
        return cast("Mapping[str, Any]", orjson.loads(self.content))


class Block(NamedTuple):
    """The whole events that one read of a stream brought.

    Attributes:
        raw: The events as server-sent events, ready to be passed on.
        content: Whether one of them has content: text, reasoning, a refusal or a tool call.
    """

    raw: bytes
    content: bool

    def chunks(self) -> Iterator[Chunk]:
        """The events, but for the one that says that the stream is over, and those that say nothing."""
        return iter([Chunk(data) for data in data_in(self.raw) if data not in _NO_CHUNKS])


class ProviderStream(Protocol):
    """A stream that is being read.

    Attributes:
        usage: What the provider counted, as soon as it said so.
    """

    usage: Usage | None

    @property
    def request_id(self) -> str:
        """The vendor's own id of the call, or an empty string."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, though its end may still be to come: silence is no break of it any more."""
        ...

    def commit(self) -> None:
        """What comes from now on is passed on: only what must be known of it need be looked for."""
        ...

    async def read(self) -> Block | None:
        """The next events, as they come; `None` at the end of a stream that is complete.

        Raises:
            ClientError: For every way in which a stream can fail, one that ends too early among them.
        """
        ...


@runtime_checkable
class StreamingClient(Protocol):
    """A `ProviderClient` that can stream as well."""

    def stream(self, request: Request) -> AbstractAsyncContextManager[ProviderStream]:
        """Make one call and read its answer as it comes, inside ``async with``.

        Raises:
            ClientError: On entering, for every way in which the call can fail before its answer begins.
        """
        ...


@runtime_checkable
class ProviderClient(Protocol):
    """How to talk to one provider as one credential."""

    async def send(self, request: Request) -> Response:
        """Make one call and return its whole answer.

        Raises:
            ClientError: For every way in which the call can fail. Any other exception but cancellation is a defect of
                the client; the runner treats it as a failure of category ``client_error`` that is not retryable.
        """
        ...

    async def aclose(self) -> None:
        """Close what the client opened itself; a connection pool that was handed in stays open."""
        ...
