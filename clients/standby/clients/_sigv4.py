"""AWS's signature of a call, made by botocore's own signer, and the credentials that it is made with.

Whoever imports this needs botocore.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, Protocol

import anyio
import anyio.to_thread
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError
from pydantic import SecretStr

from ._errors import ClientError

__all__ = ["AwsCredentials", "FoundCredentials", "GivenCredentials", "signed"]

_TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
_NO_CREDENTIALS: Final = (
    "no credentials of AWS were found: give access_key_id and secret_access_key, or api_key, "
    "or what AWS's own tools would use"
)


class AwsCredentials(Protocol):
    """Where credentials come from."""

    async def current(self) -> ReadOnlyCredentials:
        """Those to sign with now; to be used and forgotten.

        Raises:
            ClientError: There are none.
        """
        ...


class GivenCredentials:
    """Credentials that were given, and stay."""

    def __init__(self, access_key_id: SecretStr, secret_access_key: SecretStr, session_token: SecretStr | None) -> None:
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._session_token = session_token

    async def current(self) -> ReadOnlyCredentials:
        """The same each time."""
        token = self._session_token.get_secret_value() if self._session_token is not None else ""
        return ReadOnlyCredentials(
            self._access_key_id.get_secret_value(), self._secret_access_key.get_secret_value(), token or None
        )


class FoundCredentials:
    """What AWS's own tools would use: the environment, files, a role of the machine.

    They are looked for when first needed and again before they expire, by botocore, in a thread: that may take
    seconds, and a call for which its caller does not wait any more does not wait either.
    """

    def __init__(self) -> None:
        self._found: Credentials | None = None
        self._one_at_a_time = anyio.Lock()

    async def current(self) -> ReadOnlyCredentials:
        """Those that are valid now."""
        if (found := self._fresh()) is not None:
            return found.get_frozen_credentials()
        async with self._one_at_a_time:
            if (found := self._fresh()) is not None:
                return found.get_frozen_credentials()
            try:
                return await anyio.to_thread.run_sync(self._looked_up, abandon_on_cancel=True)
            except (BotoCoreError, OSError, RuntimeError) as error:
                raise _no_credentials(str(error)) from error

    def _fresh(self) -> Credentials | None:
        found = self._found
        expires = isinstance(found, RefreshableCredentials) and found.refresh_needed()
        return None if expires else found

    def _looked_up(self) -> ReadOnlyCredentials:
        if self._found is None:
            from botocore.session import Session  # noqa: PLC0415 - it takes long, and most need it never

            self._found = Session().get_credentials()
        if self._found is None:
            raise _no_credentials(_NO_CREDENTIALS)
        return self._found.get_frozen_credentials()


def _no_credentials(message: str) -> ClientError:
    return ClientError("auth_failed", message, scope="credential", work="not_sent")


def signed(
    credentials: ReadOnlyCredentials,
    *,
    service: str,
    region: str,
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    now: float,
) -> dict[str, SecretStr]:
    """The headers that sign a POST: Signature Version 4.

    Args:
        credentials: Whose signature it is.
        service: The service's name in signatures.
        region: Where the service is.
        url: Where the call goes, percent-encoded.
        content: Its body.
        headers: Those of its headers that are signed too.
        now: The time, in seconds since the epoch.
    """
    request = AWSRequest("POST", url, headers, content)
    timestamp = request.context["timestamp"] = time.strftime(_TIMESTAMP, time.gmtime(now))
    request.headers["X-Amz-Date"] = timestamp
    own = {"x-amz-date": SecretStr(timestamp)}
    if credentials.token:
        request.headers["X-Amz-Security-Token"] = credentials.token
        own["x-amz-security-token"] = SecretStr(credentials.token)
    # Step by step: as a whole botocore would look at its own clock, and log what it signs.
    signer = SigV4Auth(credentials, service, region)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    names = signer.signed_headers(signer.headers_to_sign(request))
    signature = signer.signature(to_sign, request)
    scope = signer.scope(request)
    text = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
    return {**own, "authorization": SecretStr(text)}
