"""The tokens of a request to Anthropic's Messages: who can count them, and the estimate where nobody can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from ._body import Body, InvalidBody
from ._errors import ClientError
from ._protocols import Request
from .dialects import dialect_of

COUNT_TOKENS: Final = "messages/count_tokens"
"""Anthropic's endpoint that counts the tokens of a request to its Messages."""


def as_messages(request: Request) -> Request:
    """The request to Messages whose tokens are to be counted; a count needs no bound on the answer.

    Raises:
        ClientError: ``bad_request`` for a body that is no JSON object.
    """
    try:
        return replace(request, endpoint="messages", body=_bounded(Body.of(request.body)))
    except InvalidBody as error:
        raise ClientError("bad_request", str(error), status=400, scope="request", work="rejected") from error


def counts_tokens(client: object) -> bool:
    """Whether the vendor of a client can be asked to count tokens."""
    return bool(getattr(client, "counts_tokens", False))


def estimated_count(body: Body) -> dict[str, Any]:
    """An answer to a request to count tokens that asks nobody, and is not exact: the estimate that limits go by.

    Raises:
        InvalidRequest: The request could not be asked either.
    """
    if (messages := dialect_of("messages")) is not None:
        messages.conversation(_bounded(body))
    return {"input_tokens": body.estimated_tokens()}


def _bounded(body: Body) -> dict[str, Any]:
    return {"max_tokens": 1, **body.data}
