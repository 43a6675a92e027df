"""How many tokens a request has, where no provider is asked: the estimate that limits go by too."""

from __future__ import annotations

from typing import Final

import orjson

from ._body import Body, InvalidBody
from ._errors import ClientError
from ._protocols import Request, Response, Usage
from .dialects import InvalidRequest, dialect_of

COUNT_TOKENS: Final = "messages/count_tokens"
"""Anthropic's endpoint that counts the tokens of a request to its Messages."""


def estimated_count(request: Request) -> Response:
    """The answer to a request to count tokens, without a call; that the count is not exact is told.

    Raises:
        ClientError: ``bad_request`` for what could not be asked either.
    """
    try:
        body = Body.of(request.body)
        if (dialect := dialect_of("messages")) is not None:
            dialect.conversation({"max_tokens": 1, **body.data})
    except (InvalidBody, InvalidRequest) as error:
        raise ClientError("bad_request", str(error), status=400, scope="request", work="rejected") from error
    counted = {"input_tokens": body.estimated_tokens()}
    return Response(200, {}, orjson.dumps(counted), counted, Usage(), dropped=("exact_count",))
