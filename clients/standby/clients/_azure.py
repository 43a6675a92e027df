"""Azure OpenAI: OpenAI's API under the names of deployments, with Azure's own addresses and credentials.

From learn.microsoft.com/azure/ai-foundry/openai/reference and .../openai/latest.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from pydantic import SecretStr

from ._client import Call
from ._errors import ClientError
from ._http import Host, Sealed, seal
from ._openai import OpenAIClient
from ._pool import HttpPool
from ._protocols import Request
from ._registry import ClientSettings
from ._token import Token, token_of
from .dialects._chat_server import OPENAI, ChatServer

__all__ = ["AZURE_API_VERSION", "AzureOpenAIClient"]

AZURE_API_VERSION: Final = "2024-10-21"
"""The newest dated version that is no preview. What came after it is in ``v1``, which has no dates any more."""

_DEPLOYMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DEPLOYED: Final = frozenset(
    {
        *("chat/completions", "completions", "embeddings", "images/generations", "images/edits"),
        *("audio/speech", "audio/transcriptions", "audio/translations"),
    }
)
"""What is asked of a deployment; the rest is asked of the resource, and names the model in its body."""

_UNDATED: Final = ("v1", "preview")
_NAMES_AS_OPENAI_FROM: Final = "2024-12-01"
_RESPONSES_FROM: Final = "2025-03-01"
"""learn.microsoft.com/azure/ai-foundry/openai/how-to/responses"""
AZURE: Final = replace(OPENAI, name="azure_openai")
AZURE_2024: Final = ChatServer(
    name="azure_openai",
    pages=("github.com/Azure/azure-rest-api-specs (AzureOpenAI/inference/stable/2024-10-21)",),
    lacks=("reasoning", "verbosity", "metadata", "service_tier", "store", "file_data", "file_id", "audio"),
    keys={"max_completion_tokens": "max_tokens"},
    roles={"developer": "system"},
    shows_thoughts=False,
)
"""The dated versions up to the default one."""


def azure_server(api_version: str) -> ChatServer:
    """What a version of Azure's API does otherwise than OpenAI's."""
    if api_version in _UNDATED or api_version >= _RESPONSES_FROM:
        return AZURE
    return replace(AZURE, responses=False) if api_version >= _NAMES_AS_OPENAI_FROM else AZURE_2024


class AzureOpenAIClient(OpenAIClient):
    """Speaks to one Azure OpenAI resource as one credential; a model is the name of a deployment there."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: SecretStr | None = None,
        token: Token | None = None,
        api_version: str = AZURE_API_VERSION,
        headers: Mapping[str, SecretStr] | None = None,
        http: HttpPool | Host | None = None,
        connect_seconds: float | None = None,
        streams_may_end_without_finish: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a client; nothing is opened before the first call.

        Args:
            base_url: The resource, such as ``https://NAME.openai.azure.com``.
            api_key: Sent as ``api-key``; nothing is sent where it is missing or empty.
            token: Asked for a token of Microsoft Entra before each call, instead of ``api_key``. With `azure.identity`:
                ``get_bearer_token_provider(credential, "https://cognitiveservices.azure.com/.default")``.
            api_version: A date, or ``v1`` or ``preview`` for the API that has no dates.
            headers: As `OpenAIClient`, and so are the rest.
            http: Connections.
            connect_seconds: How long to wait for one.
            streams_may_end_without_finish: Whether a stream that just ends is complete.
            clock: Seconds since the epoch.

        Raises:
            ValueError: For settings that do not go together, an address or a header that cannot be sent; no secret is
                quoted.
        """
        if api_key is not None and token is not None:
            raise ValueError("needs either api_key or token")
        key = "" if api_key is None else api_key.get_secret_value().strip()
        self._dated = api_version not in _UNDATED
        self._query = "" if api_version == "v1" else f"?api-version={api_version}"
        self._token = token
        resource = base_url.rstrip("/").removesuffix("/v1").removesuffix("/openai")
        super().__init__(
            base_url=f"{resource}/openai" if self._dated else f"{resource}/openai/v1",
            headers={**({"api-key": SecretStr(key)} if key else {}), **(headers or {})},
            http=http,
            connect_seconds=connect_seconds,
            streams_may_end_without_finish=streams_may_end_without_finish,
            server=azure_server(api_version),
            clock=clock,
        )

    def prepared(self, request: Request, *, stream: bool) -> tuple[str, Call]:
        """Where the request goes, and as what.

        Raises:
            ClientError: It cannot be sent.
        """
        url, call = super().prepared(request, stream=stream)
        endpoint = url.removeprefix(f"{self._base_url}/")
        if self._dated and endpoint in _DEPLOYED:
            if not _DEPLOYMENT.fullmatch(request.model):
                message = f"not a name of a deployment: {request.model[:100]!r}"
                raise ClientError("unsupported_model", message, work="not_sent")
            url = f"{self._base_url}/deployments/{request.model}/{endpoint}"
        return url + self._query, call

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:
        """The headers of one call, its key or its token among them.

        Raises:
            ClientError: The token is not to be had.
        """
        if self._token is None:
            return await super().sealed(url, content, stream=stream)
        bearer = await token_of(self._token)
        try:
            return seal(self._headers_for_streams if stream else self._headers, bearer=bearer)
        except ValueError as error:  # it is not quoted
            raise ClientError("auth_failed", f"the token: {error}", scope="credential", work="not_sent") from None

    def __repr__(self) -> str:
        return f"AzureOpenAIClient({self._base_url!r})"


def from_settings(settings: ClientSettings) -> AzureOpenAIClient:
    """The client of a provider."""
    if settings.base_url is None:
        raise ValueError("azure_openai needs base_url: https://NAME.openai.azure.com")
    return AzureOpenAIClient(
        base_url=settings.base_url,
        api_key=settings.api_key,
        api_version=settings.api_version or AZURE_API_VERSION,
        headers=settings.headers,
        http=settings.http,
        connect_seconds=settings.connect_seconds,
        streams_may_end_without_finish=settings.streams_may_end_without_finish,
    )
