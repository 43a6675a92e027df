"""OpenAI's API, and every server that is compatible with it.

The request goes out as it came in but for the model's name. The answer comes back as it was sent; it is read far
enough to know that it is one: `written` and `answered` are pure, `OpenAIClient` only carries bytes between them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

import orjson
from pydantic import SecretStr

from ._answers import Scrub, error_inside, failed_answer, unusable
from ._body import Body, InvalidBody
from ._errors import ClientError
from ._http import Host, seal
from ._http_answer import HttpAnswer, request_id_of
from ._pool import HttpPool
from ._protocols import Request, Response, Usage

__all__ = ["OPENAI_BASE_URL", "OpenAIClient", "answered", "written"]

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"

_ENDPOINT: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9_.:~/-]{1,500}")
_MAX_ENDPOINTS: Final = 64

_NOT_FORWARDED: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "content-length", "content-encoding", "expect", "cookie"),
    }
)
"""Headers that belong to one connection, one body or one site, and not to the call."""


class OpenAIClient:
    """Speaks to one OpenAI-compatible server as one credential.

    It takes any JSON endpoint: what is promised of ``chat/completions``, ``completions``, ``embeddings``,
    ``responses``, ``moderations`` and ``images/...`` is checked; of others, that the answer is a JSON object.
    """

    def __init__(
        self,
        *,
        api_key: SecretStr | None = None,
        base_url: str = OPENAI_BASE_URL,
        headers: Mapping[str, SecretStr] | None = None,
        http: HttpPool | Host | None = None,
        connect_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a client; nothing is opened before the first call.

        Args:
            api_key: Sent as a bearer token; nothing is sent where it is missing or empty.
            base_url: Up to the part that all endpoints share, usually ``/v1``.
            headers: Sent with every call. They win over everything, an ``authorization`` among them over the key.
            http: A pool to share, or the host's own `httpx.AsyncClient`; what is handed in stays open.
            connect_seconds: How long to wait for a connection; the pool's own where it is missing.
            clock: Seconds since the epoch: the times in answers are compared with it.

        Raises:
            ValueError: For an address or a header that cannot be sent; no secret is quoted.
        """
        own = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "content-type": "application/json",
            "user-agent": "standby",
        }
        self._sealed = seal({**own, **(headers or {})}, bearer=api_key)
        self._base_url = _checked_base_url(base_url)
        self._urls: dict[str, str] = {}
        self._pool = HttpPool.of(http)
        self._owns_pool = self._pool is not http
        self._connect_seconds = connect_seconds
        self._clock = clock

    async def send(self, request: Request) -> Response:
        """Make one call and return its whole answer.

        Raises:
            ClientError: For every way in which the call can fail.
        """
        url = self._urls.get(request.endpoint) or self._url_of(request.endpoint)
        answer = await self._pool.call(
            "POST",
            url,
            self._sealed,
            headers=_forwarded(request.headers) if request.headers else None,
            content=written(request),
            connect_seconds=self._connect_seconds,
        )
        return answered(request.endpoint, answer, now=self._clock(), scrub=self._sealed.scrubbed)

    async def aclose(self) -> None:
        """Close what was opened here; a pool or a client that was handed in stays open."""
        if self._owns_pool:
            await self._pool.aclose()

    def __repr__(self) -> str:
        return f"OpenAIClient({self._base_url!r})"

    def _url_of(self, endpoint: str) -> str:
        path = endpoint.strip("/")
        if not _ENDPOINT.fullmatch(path):
            raise _refused("invalid_request", f"not an endpoint: {endpoint[:100]!r}")
        if len(self._urls) >= _MAX_ENDPOINTS:
            self._urls.clear()
        url = self._urls[endpoint] = f"{self._base_url}/{path}"
        return url


# -- request -> wire ---------------------------------------------------------------------------------------------


def written(request: Request) -> bytes:
    """The bytes to send.

    Raises:
        ClientError: ``bad_request`` for a body that is not a JSON object; ``unsupported_parameter`` for one that asks
            for a stream, which this call cannot give.
    """
    try:
        body = Body(request.body)
        if body.data.get("stream"):
            raise _refused("unsupported_parameter", "a plain call cannot be answered with a stream", status=400)
        return body.with_model(request.model)
    except InvalidBody as error:
        raise _refused("bad_request", f"the request's body: {error}") from error


def _refused(code: str, message: str, status: int = 0) -> ClientError:
    return ClientError(code, message, status=status, scope="request", work="rejected" if status else "not_sent")


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lowered.items() if name not in _NOT_FORWARDED}


def _checked_base_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("base_url is not an address") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not hold a user or a password: use api_key or headers")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine:
        raise ValueError("base_url must be an http or https address with a host")
    if parts.query or parts.fragment or not base_url.isascii() or re.search(r"\s", base_url):
        raise ValueError("base_url must be a plain address, without a query, a fragment or white space")
    return base_url.rstrip("/")


# -- wire -> values ----------------------------------------------------------------------------------------------


def answered(endpoint: str, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
    """The answer as a value.

    Args:
        endpoint: What was called; it says what an answer looks like.
        answer: The answer.
        now: The time, in seconds since the epoch.
        scrub: Takes secrets out of a text.

    Raises:
        ClientError: For an answer that is a failure, or none at all.
    """
    status, headers = answer.status, answer.headers
    if not 200 <= status < 300:
        raise failed_answer(answer, now=now, scrub=scrub)
    try:
        data: object = orjson.loads(answer.content)
    except orjson.JSONDecodeError as error:
        found = f"{len(answer.content)} bytes of {headers.get('content-type', 'unknown type')[:100]}"
        raise unusable("invalid_response", f"the answer is not JSON: {found}", status, headers) from error
    if not isinstance(data, dict):
        raise unusable("invalid_response", "the answer is not a JSON object", status, headers)
    body = cast("dict[str, Any]", data)
    failure = error_inside(status, headers, body, now=now, scrub=scrub) or error_inside(
        status, headers, _failed_choice(body), now=now, scrub=scrub
    )
    if failure is not None:
        raise failure
    promise = next((promise for ending, promise in _PROMISES.items() if endpoint.strip("/").endswith(ending)), None)
    problem = promise(body) if promise is not None else None
    if problem is not None:
        code = "empty_response" if problem is _EMPTY else "invalid_response"
        raise unusable(code, problem, status, headers)
    return Response(status, headers, answer.content, body, _usage(body.get("usage")), request_id_of(headers))


_EMPTY: Final = "the answer is complete and has nothing in it"

_SUBSTANCE: Final = (
    *("content", "tool_calls", "refusal", "function_call", "reasoning", "reasoning_content", "reasoning_details"),
    *("thinking", "audio", "images"),
)
"""Where servers put what a model has to say: text, calls, refusals, reasoning, sound, pictures."""


def _chat(body: Mapping[str, Any]) -> str | None:
    choices = _objects(body.get("choices"))
    if not choices:
        return "the answer has no choices"
    messages = [choice.get("message") for choice in choices]
    if not all(isinstance(message, dict) for message in messages):
        return "a choice of the answer has no message"
    said = any(cast("dict[str, Any]", message).get(key) for message in messages for key in _SUBSTANCE)
    return None if said or _silence_is_explained(choices, body) else _EMPTY


def _completion(body: Mapping[str, Any]) -> str | None:
    choices = _objects(body.get("choices"))
    if not choices:
        return "the answer has no choices"
    if not all(isinstance(choice.get("text"), str) for choice in choices):
        return "a choice of the answer has no text"
    said = any(choice["text"] for choice in choices)
    return None if said or _silence_is_explained(choices, body) else _EMPTY


def _silence_is_explained(choices: list[dict[str, Any]], body: Mapping[str, Any]) -> bool:
    reasons = {choice.get("finish_reason") for choice in choices}
    # A model that thought until its tokens ran out has answered; its thoughts are hidden, and counted.
    return "content_filter" in reasons or ("length" in reasons and _hidden_reasoning(body.get("usage")))


def _hidden_reasoning(usage: object) -> bool:
    details = cast("dict[str, object]", usage).get("completion_tokens_details") if isinstance(usage, dict) else None
    return isinstance(details, dict) and bool(cast("dict[str, object]", details).get("reasoning_tokens"))


def _response(body: Mapping[str, Any]) -> str | None:
    output = _objects(body.get("output"))
    if output is None:
        return "the answer has no output"
    if body.get("status") == "failed":
        return "the answer says that it failed, and not why"
    if body.get("status", "completed") != "completed":
        return None  # incomplete, with its reason; queued, in the background
    said = any(item.get("type") != "message" or _objects(item.get("content")) for item in output)
    return None if said else _EMPTY


def _list_under(key: str) -> Callable[[Mapping[str, Any]], str | None]:
    def promise(body: Mapping[str, Any]) -> str | None:
        return None if isinstance(body.get(key), list) else f"the answer has no list under {key!r}"

    return promise


_PROMISES: Final[Mapping[str, Callable[[Mapping[str, Any]], str | None]]] = {
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _list_under("data"),
    "responses": _response,
    "moderations": _list_under("results"),
    "images/generations": _list_under("data"),
}
"""What an answer must have, by the end of the endpoint; the first that fits."""


_NO_CHOICE: Final[Mapping[str, Any]] = {}


def _objects(value: object) -> list[dict[str, Any]] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return cast("list[dict[str, Any]]", items) if all(isinstance(item, dict) for item in items) else None


def _failed_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """OpenRouter reports an error of the model's own host inside a choice."""
    choices = _objects(body.get("choices")) or []
    return next((choice for choice in choices if isinstance(choice.get("error"), dict)), _NO_CHOICE)


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    counted = cast("dict[str, object]", usage)
    inputs = _count(counted, "prompt_tokens", "input_tokens")
    outputs = _count(counted, "completion_tokens", "output_tokens")
    return None if inputs is None and outputs is None else Usage(inputs or 0, outputs or 0)


def _count(usage: Mapping[str, object], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
