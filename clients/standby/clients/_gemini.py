"""Google's Gemini, at the Gemini API or at Vertex AI. What is said there, `dialects/_gemini.py` knows.

Sources: ai.google.dev/api, cloud.google.com/vertex-ai/generative-ai/docs/learn/locations,
cloud.google.com/vertex-ai/generative-ai/docs/start/express-mode/overview,
ai.google.dev/api/tokens, cloud.google.com/vertex-ai/generative-ai/docs/model-reference/count-tokens.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, NoReturn

import orjson
from pydantic import SecretStr

from ._answers import Scrub, success, unusable
from ._breaks import StreamedAnswer
from ._client import Call, HttpClient, checked_base_url
from ._counting import COUNT_TOKENS, as_messages
from ._errors import ClientError
from ._http import Host, Sealed, seal
from ._http_answer import HttpAnswer, request_id_of
from ._pool import HttpPool
from ._protocols import Request, Response, Usage
from ._registry import ClientSettings
from ._token import Token, token_of
from ._translation import translated
from .dialects._gemini import GEMINI

__all__ = ["GEMINI_BASE_URL", "GeminiClient"]

GEMINI_BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta"

_COUNTED_ON_VERTEX: Final = ("contents", "systemInstruction", "tools", "generationConfig")
_MULTI_REGIONS: Final = frozenset({"us", "eu"})
_MODEL: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9_.@/-]{1,500}")
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")


class GeminiClient(HttpClient):
    """Speaks to the Gemini API, or to Vertex AI, as one credential.

    It takes what callers of OpenAI's chat completions and Responses and of Anthropic's Messages say, and translates it.
    """

    counts_tokens: ClassVar[bool] = True

    def __init__(
        self,
        *,
        api_key: SecretStr | None = None,
        token: Token | None = None,
        project: str | None = None,
        location: str | None = None,
        base_url: str | None = None,
        headers: Mapping[str, SecretStr] | None = None,
        http: HttpPool | Host | None = None,
        connect_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a client; nothing is opened before the first call.

        Args:
            api_key: Sent as ``x-goog-api-key``; nothing is sent where it is missing or empty.
            token: Asked for a bearer token before each call, instead of ``api_key``.
            project: On Vertex AI, with ``location``: calls go there.
            location: A region such as ``europe-west4``, or ``global``, ``us`` or ``eu``.
            base_url: Up to the version of the API. For Vertex AI in express mode
                ``https://aiplatform.googleapis.com/v1/publishers/google``, with ``api_key`` and without a project.
            headers: Sent with every call; they win over everything.
            http: A pool to share, or the host's own `httpx.AsyncClient`; what is handed in stays open.
            connect_seconds: How long to wait for a connection; the pool's own where it is missing.
            clock: Seconds since the epoch: the times in answers are compared with it.

        Raises:
            ValueError: For settings that do not go together, an address or a header that cannot be sent; no secret is
                quoted.
        """
        super().__init__(http=http, connect_seconds=connect_seconds, clock=clock)
        if api_key is not None and token is not None:
            raise ValueError("needs either api_key or token")
        own: dict[str, str | SecretStr] = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "content-type": "application/json",
            "user-agent": "standby",
        }
        if api_key is not None and (key := api_key.get_secret_value().strip()):
            own["x-goog-api-key"] = SecretStr(key)
        self._headers: Mapping[str, str | SecretStr] = {**own, **(headers or {})}
        streaming = {"accept": "text/event-stream", "accept-encoding": "identity"}
        self._headers_for_streams: Mapping[str, str | SecretStr] = {**own, **streaming, **(headers or {})}
        self._sealed = seal(self._headers)
        self._sealed_for_streams = seal(self._headers_for_streams)
        self._token = token
        self._base_url, self._models = _place(base_url, project, location)
        self._on_vertex = project is not None or self._base_url.endswith("/publishers/google")

    def prepared(self, request: Request, *, stream: bool) -> tuple[str, Call]:
        """Where the request goes, and as what.

        Raises:
            ClientError: It cannot be sent.
        """
        if request.endpoint == COUNT_TOKENS and not stream:
            return f"{self._url_of(request.model)}:countTokens", self._counting(request)
        call = translated(request, GEMINI, stream=stream)
        return self._url_of(request.model) + (":streamGenerateContent?alt=sse" if stream else ":generateContent"), call

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:  # noqa: ARG002 - a key signs nothing
        """The headers of one call, its key or its token among them.

        Raises:
            ClientError: The token is not to be had.
        """
        if self._token is None:
            return self._sealed_for_streams if stream else self._sealed
        bearer = await token_of(self._token)
        try:
            return seal(self._headers_for_streams if stream else self._headers, bearer=bearer)
        except ValueError as error:  # it is not quoted
            raise ClientError("auth_failed", f"the token: {error}", scope="credential", work="not_sent") from None

    def _counting(self, request: Request) -> CountCall:
        """A count of what a request to Messages would ask; the Gemini API wants it whole, Vertex AI parts of it."""
        call = translated(as_messages(request), GEMINI, stream=False)
        asked: dict[str, Any] = orjson.loads(call.content)
        if self._on_vertex:
            body: dict[str, Any] = {key: asked[key] for key in _COUNTED_ON_VERTEX if key in asked}
        else:
            model = request.model if "/" in request.model else f"models/{request.model}"
            body = {"generateContentRequest": {"model": model, **asked}}
        return CountCall(orjson.dumps(body), call.dropped)

    def __repr__(self) -> str:
        return f"GeminiClient({self._base_url!r})"

    def _url_of(self, model: str) -> str:
        if not _MODEL.fullmatch(model):
            message = f"not a name of a model: {model[:100]!r}"
            raise ClientError("unsupported_model", message, work="not_sent")
        return f"{self._base_url}/{model}" if "/" in model else f"{self._base_url}/{self._models}/{model}"


class CountCall(NamedTuple):
    """A call that counts tokens, for a caller of Anthropic's dialect."""

    content: bytes
    dropped: tuple[str, ...]

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The count as a value, nothing was used for it; `ClientError` for an answer that is a failure, or no count."""
        tokens = success(answer, now=now, scrub=scrub).get("totalTokens", 0)  # 0 is left out
        if not isinstance(tokens, int):
            raise unusable("invalid_response", "totalTokens is no number", answer.status, answer.headers)
        counted = {"input_tokens": tokens}
        request_id = request_id_of(answer.headers)
        content = orjson.dumps(counted)
        return Response(answer.status, answer.headers, content, counted, Usage(), request_id, self.dropped)

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> NoReturn:
        """It was not asked for."""
        raise NotImplementedError


def _place(base_url: str | None, project: str | None, location: str | None) -> tuple[str, str]:
    """The address that all models share, and the path from there to those of Google that are called by name alone."""
    if project is None and location is None:
        return checked_base_url(base_url or GEMINI_BASE_URL), "models"
    if project is None or location is None:
        raise ValueError("project and location must be given together")
    if not _ID.fullmatch(project) or not _ID.fullmatch(location):
        raise ValueError("project and location must be ids of Google Cloud: letters, digits and hyphens")
    shared = checked_base_url(base_url or f"https://{_vertex_host(location)}/v1")
    return f"{shared}/projects/{project}/locations/{location}", "publishers/google/models"


def _vertex_host(location: str) -> str:
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def from_settings(settings: ClientSettings) -> GeminiClient:
    """The client of a provider."""
    return GeminiClient(
        api_key=settings.api_key,
        project=settings.project,
        location=settings.location,
        base_url=settings.base_url,
        headers=settings.headers,
        http=settings.http,
        connect_seconds=settings.connect_seconds,
    )
