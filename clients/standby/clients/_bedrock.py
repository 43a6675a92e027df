"""Amazon Bedrock: Converse, signed with AWS's signature or called with one of Bedrock's own keys.

It needs botocore, the extra `bedrock`, which signs and takes the streams apart.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pydantic import SecretStr

from ._client import Call, HttpClient, checked_base_url
from ._http import Host, Sealed, seal
from ._pool import HttpPool
from ._protocols import Request
from ._registry import ClientSettings
from ._translation import translated
from .dialects._converse import CONVERSE

if TYPE_CHECKING:
    from ._sigv4 import AwsCredentials

__all__ = ["BedrockClient"]

_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_OWN: Final = {
    "accept": "application/json",
    "accept-encoding": "gzip",
    "content-type": "application/json",
    "user-agent": "standby",
}
_OWN_OF_STREAMS: Final = {**_OWN, "accept": "application/vnd.amazon.eventstream", "accept-encoding": "identity"}
_KEY_OF_THE_ENVIRONMENT: Final = "AWS_BEARER_TOKEN_BEDROCK"


class BedrockClient(HttpClient):
    """Speaks to Bedrock in one region as one credential. Every call is translated: nobody's callers speak Converse."""

    def __init__(
        self,
        *,
        region: str | None = None,
        base_url: str | None = None,
        api_key: SecretStr | None = None,
        access_key_id: SecretStr | None = None,
        secret_access_key: SecretStr | None = None,
        session_token: SecretStr | None = None,
        headers: Mapping[str, SecretStr] | None = None,
        http: HttpPool | Host | None = None,
        connect_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a client; nothing is opened or looked for before the first call.

        Args:
            region: Such as ``eu-central-1``; calls are signed for it.
            base_url: Where Bedrock's runtime is, if not where AWS has it for the region.
            api_key: One of Bedrock's own keys, sent as a bearer token; nothing is signed then.
            access_key_id: With the next one, the credential to sign with. Without any of the three, what AWS's own
                tools would use, a key in ``AWS_BEARER_TOKEN_BEDROCK`` before all else.
            secret_access_key: See above.
            session_token: Of temporary credentials.
            headers: Sent with every call. They win over everything; with an ``authorization`` nothing is signed.
            http: A pool to share, or the host's own `httpx.AsyncClient`; what is handed in stays open.
            connect_seconds: How long to wait for a connection; the pool's own where it is missing.
            clock: Seconds since the epoch: calls are signed for that time.

        Raises:
            ValueError: botocore is not installed; the settings contradict each other, or an address or a header cannot
                be sent. No secret is quoted.
        """
        if importlib.util.find_spec("botocore") is None:
            raise ValueError("the client bedrock needs botocore: pip install 'standby[bedrock]'")
        super().__init__(http=http, connect_seconds=connect_seconds, clock=clock)
        self._region = region
        self._base_url = checked_base_url(base_url or _address(region))
        self._headers = headers or {}
        keys = access_key_id, secret_access_key, session_token
        key = api_key
        if key is None and not any(keys) and (found := os.environ.get(_KEY_OF_THE_ENVIRONMENT)):
            key = SecretStr(found)
        self._credentials = None
        self._sealed = seal({**_OWN, **self._headers}, bearer=key)
        self._sealed_for_streams = seal({**_OWN_OF_STREAMS, **self._headers}, bearer=key)
        if "authorization" not in self._sealed:
            self._credentials = _credentials(*keys)
            if region is None:
                raise ValueError("region is needed to sign calls, unless there is an api_key")
        elif any(keys):
            raise ValueError("a call has either a key or a signature: give api_key, or access_key_id and the others")

    def prepared(self, request: Request, *, stream: bool) -> tuple[str, Call]:
        """Where the request goes, and its translation.

        Raises:
            ClientError: It cannot be sent.
        """
        call = translated(request, CONVERSE, stream=stream)
        model = quote(request.model, safe="-._~")
        return f"{self._base_url}/model/{model}/converse{'-stream' if stream else ''}", call

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:
        """The headers of one call: its signature, or the key.

        Raises:
            ClientError: There are no credentials.
        """
        if self._credentials is None or self._region is None:
            return self._sealed_for_streams if stream else self._sealed
        from ._sigv4 import signed  # noqa: PLC0415 - an optional dependency

        signature = signed(
            await self._credentials.current(),
            service="bedrock",
            region=self._region,
            url=url,
            content=content,
            headers={"content-type": "application/json"},
            now=self._clock(),
        )
        return seal({**(_OWN_OF_STREAMS if stream else _OWN), **signature, **self._headers})

    def __repr__(self) -> str:
        return f"BedrockClient({self._base_url!r})"


def from_settings(settings: ClientSettings) -> BedrockClient:
    """The client of a provider."""
    return BedrockClient(
        region=settings.region,
        base_url=settings.base_url,
        api_key=settings.api_key,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key,
        session_token=settings.session_token,
        headers=settings.headers,
        http=settings.http,
        connect_seconds=settings.connect_seconds,
    )


def _address(region: str | None) -> str:
    if region is None or not _REGION.fullmatch(region):
        raise ValueError("region must be one of AWS's, such as eu-central-1")
    return f"https://bedrock-runtime.{region}.amazonaws.com"


def _credentials(
    access_key_id: SecretStr | None, secret_access_key: SecretStr | None, session_token: SecretStr | None
) -> AwsCredentials:
    from ._sigv4 import FoundCredentials, GivenCredentials  # noqa: PLC0415 - an optional dependency

    if access_key_id is not None and secret_access_key is not None:
        return GivenCredentials(access_key_id, secret_access_key, session_token)
    if access_key_id is not None or secret_access_key is not None or session_token is not None:
        raise ValueError("access_key_id and secret_access_key belong together, and session_token to both")
    return FoundCredentials()
