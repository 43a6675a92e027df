"""Who may call, and who may operate. Keys are compared in constant time, all of them, whichever matches."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.requests import Request

from standby.store import CallerKey, RateLimitPolicy

from ._answers import Refusal


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call.

    Attributes:
        name: For the record; empty where the server has no keys.
        models: The models it may use; `None` for all.
        rate_limit: What it may use of them.
    """

    name: str
    models: frozenset[str] | None
    rate_limit: RateLimitPolicy

    def may_use(self, model: str) -> bool:
        """Whether this caller may ask for ``model``."""
        return self.models is None or model in self.models


ANYBODY = Caller("", None, RateLimitPolicy())


class Callers:
    """The callers' keys of a server; without any, whoever reaches the server may call."""

    def __init__(self, keys: Sequence[CallerKey]) -> None:
        self._known = [
            (
                _digest(key.key),
                Caller(key.name, None if key.models is None else frozenset(key.models), key.rate_limit),
            )
            for key in keys
        ]

    def of(self, request: Request) -> Caller:
        """Who calls.

        Raises:
            Refusal: The key is missing or wrong.
        """
        if not self._known:
            return ANYBODY
        given = _digest(SecretStr(bearer(request)))
        found: Caller | None = None
        for digest, caller in self._known:
            if hmac.compare_digest(digest, given):
                found = caller
        if found is None:
            raise _wrong_key()
        return found


class Operators:
    """Who may use the admin API: whoever has its key; without one, whoever is on this machine."""

    def __init__(self, key: SecretStr | None) -> None:
        self._digest = None if key is None else _digest(key)

    def check(self, request: Request) -> None:
        """Let an operator pass.

        Raises:
            Refusal: It is none.
        """
        if self._digest is not None:
            if not hmac.compare_digest(self._digest, _digest(SecretStr(bearer(request)))):
                raise _wrong_key()
        elif not _is_local(request):
            message = "Without server.admin_key the admin API answers on loopback only."
            raise Refusal(403, "permission_error", "loopback_only", message)


def bearer(request: Request) -> str:
    """The key that the request brings, or an empty string."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _wrong_key() -> Refusal:
    return Refusal(401, "authentication_error", "invalid_api_key", "The key is missing or wrong.")


def _is_local(request: Request) -> bool:
    # A proxy on this machine forwards for others, and a page in a browser here can be made to ask a name that resolves
    # to loopback: neither is an operator at this machine.
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    return (
        not forwarded
        and request.client is not None
        and is_loopback(request.client.host)
        and is_loopback(request.url.hostname or "")
    )


def _digest(secret: SecretStr) -> bytes:
    return hashlib.sha256(secret.get_secret_value().encode()).digest()
