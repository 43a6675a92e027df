"""A call in OpenAI's own dialect, as a compatible server can take it: what it lacks is refused, or left out and told.

A body of which nothing is left out, on its way to a server that does as OpenAI does, goes through untouched.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from ._body import Body, InvalidBody
from ._openai_wire import refused
from ._protocols import Request
from .dialects import unsupported
from .dialects._chat_lacking import INSIDE, without_inside
from .dialects._chat_server import OPENAI, ChatServer, asks, keys_of

__all__ = ["fitted_request"]

_Data = Mapping[str, Any]
_CHAT: Final = "chat/completions"
_FORM: Final = "response_format"


def fitted_request(request: Request, server: ChatServer) -> tuple[Request, tuple[str, ...]]:
    """The request as ``server`` can take it, and the names of what was left out; the same one where all is well.

    Raises:
        ClientError: ``bad_request`` for a body that is not a JSON object; ``unsupported_parameter`` for what the server
            lacks and the request does not allow to leave out.
    """
    may_go = _names_by_key(frozenset(request.drop))
    if not may_go and server is OPENAI:
        return request, ()
    try:
        data = Body.of(request.body).data
    except InvalidBody as error:
        raise refused("bad_request", f"the request's body: {error}") from error
    fitted, dropped = _without(data, may_go)
    if server is not OPENAI and request.endpoint.strip("/") == _CHAT:
        fitted, more = _as_it_can(fitted, server, request.drop)
        dropped += more
        request = replace(request, count_tokens=request.count_tokens and server.counts_when_asked)
    return (request if fitted is data else replace(request, body=fitted)), dropped


@lru_cache(maxsize=256)
def _names_by_key(drop: frozenset[str]) -> Mapping[str, tuple[str, ...]]:
    """By the key of a body: what may be left out that is asked for under it."""
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(drop):
        for key in keys_of(name):
            found[key] = (*found.get(key, ()), name)
    return found


def _without(
    data: Mapping[str, Any], may_go: Mapping[str, tuple[str, ...]]
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    gone = {
        key: name
        for key, value in data.items()
        for name in may_go.get(key, ())
        if name == key or key != _FORM or asks(name, key, value)
    }
    if not gone:
        return data, ()
    return {key: value for key, value in data.items() if key not in gone}, tuple(dict.fromkeys(gone.values()))


def _as_it_can(
    data: Mapping[str, Any], server: ChatServer, drop: Collection[str]
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    missing = tuple(server.missing(data))
    if refusals := [name for name in missing if name not in drop]:
        raise unsupported(server.name, dict.fromkeys(refusals, ""))
    for name in missing:
        if name in INSIDE:
            data = without_inside(name, data)
    return server.adjusted(data), missing
