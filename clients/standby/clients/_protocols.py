"""What the runner asks of a provider client, and the values that pass between them.

A client turns a `Request` into one HTTP call and the answer into a `Response`; everything that goes wrong becomes a
`ClientError`. It knows no policy: it never retries, never falls back, never waits for a rate limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ._body import Body

__all__ = ["ProviderClient", "Request", "Response", "Usage"]


@dataclass(frozen=True, slots=True)
class Request:
    """One call, as the caller made it.

    Attributes:
        model: The name the caller asked for; a client receives the provider's name of the model here.
        body: A JSON object, or the bytes of one. It is sent untouched but for the value of its ``model`` key.
        endpoint: The path below the provider's base URL.
        headers: Extra headers to send; a client's own win.
    """

    model: str
    body: Body | Mapping[str, Any] | bytes
    endpoint: str = "chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


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
