"""What the runner asks of a provider client, and the values that pass between them.

A client turns a `Request` into one HTTP call and the answer into a `Response`; everything that goes wrong becomes a
`ClientError`. It knows no policy: it never retries, never falls back, never waits for a rate limit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, cast, runtime_checkable

import orjson

from ._body import Body
from ._sse import data_in

__all__ = [
    "EVENT_STREAM",
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
        body: A JSON object, or the bytes of one; a `Form` where a file is sent. It goes out untouched but for the value
            of its ``model`` key.
        endpoint: The path below the provider's base URL.
        headers: Extra headers to send; a client's own win.
        count_tokens: Whether a stream must say what it used, though the caller may not have asked.
        drop: What may be left out where the provider cannot do it: features, and keys of the body.
    """

    model: str
    body: Body | Mapping[str, Any] | bytes
    endpoint: str = "chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    count_tokens: bool = False
    drop: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the provider counted.

    Attributes:
        input_tokens: All that was asked, what came from the cache among it.
        output_tokens: All that was answered, the thoughts among it.
        cached_tokens: Of the input, what was read from the cache.
        cache_write_tokens: Of the input, what was written to the cache.
        reasoning_tokens: Of the output, what was thought.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

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
        data: The same, decoded: a JSON object; empty where the answer is sound, or plain text.
        usage: What the provider says it counted, where it says so.
        request_id: The vendor's own id of the call, or an empty string.
        dropped: What was left out of the request, as it allowed.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    data: Mapping[str, Any]
    usage: Usage | None = None
    request_id: str = ""
    dropped: tuple[str, ...] = ()


AUDIO: Final = "audio/"
"""How the endpoints begin whose answers need be no JSON."""

EVENT_STREAM: Final = "text/event-stream"
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
        raw: The events as server-sent events, ready to be passed on; of sound, the next piece.
        content: Whether one of them has content: text, reasoning, a refusal, a tool call, sound.
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
        dropped: What was left out of the request, as it allowed.
        content_type: Of what is read: `EVENT_STREAM`, unless it is sound.
    """

    usage: Usage | None
    dropped: tuple[str, ...]
    content_type: str

    @property
    def request_id(self) -> str:
        """The vendor's own id of the call, or an empty string."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, though its end may still be to come: silence is no break of it any more."""
        ...

    def ending(self) -> Block | None:
        """What ends the answer for its caller, where it is complete and its own end does not come."""
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
