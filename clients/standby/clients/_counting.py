"""How many tokens a request has, where no provider is asked: the estimate that limits go by too."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from ._body import Body, InvalidBody
from ._errors import ClientError
from ._protocols import Request, Response, Usage
from .dialects import InvalidRequest, dialect_of

COUNT_TOKENS: Final = "messages/count_tokens"
"""Anthropic's endpoint that counts the tokens of a request to its Messages."""


def as_messages(request: Request) -> Request:
    """The request to Messages whose tokens are to be counted; a count needs no bound on the answer.

    Raises:
        ClientError: ``bad_request`` for a body that is no JSON object.
    """
    try:
        return replace(request, endpoint="messages", body={"max_tokens": 1, **Body.of(request.body).data})
    except InvalidBody as error:
        raise _bad_request(error) from error


def estimated_count(request: Request) -> Response:
    """The answer to a request to count tokens, without a call; that the count is not exact is told.

    Raises:
        ClientError: ``bad_request`` for what could not be asked either.
    """
    asked = Body.of(as_messages(request).body)
    try:
        if (dialect := dialect_of("messages")) is not None:
            dialect.conversation(asked.data)
    except InvalidRequest as error:
        raise _bad_request(error) from error
    counted = {"input_tokens": Body.of(request.body).estimated_tokens()}
    return Response(200, {}, orjson.dumps(counted), counted, Usage(), dropped=("exact_count",))


def _bad_request(error: Exception) -> ClientError:
    return ClientError("bad_request", str(error), status=400, scope="request", work="rejected")
