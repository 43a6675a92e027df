"""Who may call, and who may operate. Keys are compared in constant time, all of them, whichever matches."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr
from starlette.requests import Request

from standby.store import CallerKey, PriorityClass, RateLimitPolicy, is_loopback

from ._refusals import Refusal

_FORWARDERS: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"}
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\[\]\\]+)(?::[0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call.

    Attributes:
        name: For the record; empty where the server has no keys.
        models: The models it may use; `None` for all.
        rate_limit: What it may use of them.
        priority: Its class where runs wait for local capacity.
    """

    name: str
    models: frozenset[str] | None
    rate_limit: RateLimitPolicy
    priority: PriorityClass = "normal"

    def may_use(self, model: str) -> bool:
        """Whether this caller may ask for ``model``."""
        return self.models is None or model in self.models


ANYBODY = Caller("", None, RateLimitPolicy())


class Callers:
    """The callers' keys of a server; without any, whoever is on this machine may call."""

    def __init__(self, keys: Sequence[CallerKey]) -> None:
        self._known = [
            (
                _digest(key.key),
                Caller(key.name, None if key.models is None else frozenset(key.models), key.rate_limit, key.priority),
            )
            for key in keys
        ]

    def of(self, request: Request) -> Caller:
        """Who calls; the key is a bearer token, or stands where Anthropic's clients put it.

        Raises:
            Refusal: The key is missing or wrong.
        """
        if not self._known:
            if _is_a_foreign_page(request):
                message = "Without server.keys the server answers this machine only, and no other site's page."
                raise Refusal(403, "permission_error", "loopback_only", message)
            return ANYBODY
        given = _digest(SecretStr(bearer(request) or request.headers.get("x-api-key", "").strip()))
        found: Caller | None = None
        for digest, caller in self._known:
            if hmac.compare_digest(digest, given):
                found = caller
        if found is None:
            raise _wrong_key()
        return found


class Operators:
    """Who may use the admin API and read the metrics: whoever has its key; without one, whoever is on this machine."""

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
            message = "Without server.admin_key this path answers on loopback only, and no other site's page."
            raise Refusal(403, "permission_error", "loopback_only", message)


def bearer(request: Request) -> str:
    """The key that the request brings, or an empty string."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _wrong_key() -> Refusal:
    return Refusal(401, "authentication_error", "invalid_api_key", "The key is missing or wrong.")


def _is_local(request: Request) -> bool:
    """Whether somebody at this machine asks, and not somebody else through a program here."""
    return (
        request.client is not None
        and is_loopback(request.client.host)
        and not _is_forwarded(request)
        and _names_loopback(request)
        and not _is_another_sites(request)
    )


def _is_a_foreign_page(request: Request) -> bool:
    # A browser here lets any page post a text to any address, and a name that its owner makes resolve to loopback.
    origin = request.headers.get("origin")
    if origin is None:
        return False
    host = _HOST.fullmatch(origin.partition("://")[2])
    return host is None or not is_loopback(host[1]) or not _names_loopback(request)


def _is_forwarded(request: Request) -> bool:
    # A proxy on this machine forwards for others.
    return any(name in _FORWARDERS or name.startswith("x-forwarded-") for name in request.headers)


def _names_loopback(request: Request) -> bool:
    # A name that somebody else owns can be made to resolve to loopback, and a browser here to ask it.
    hosts = request.headers.getlist("host")
    named = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    return named is not None and is_loopback(named[1])


def _is_another_sites(request: Request) -> bool:
    # A browser here lets any page post to any address; what it must tell is whose page that was.
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    own = origin is None or origin.partition("://")[2] == request.headers.get("host")
    return not own or site not in ("same-origin", "none")


def _digest(secret: SecretStr) -> bytes:
    return hashlib.sha256(secret.get_secret_value().encode()).digest()
