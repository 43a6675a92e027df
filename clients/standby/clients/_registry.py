"""Clients by name, found among the entry points of `standby.clients`: ours, and those of any other package.

An entry point names a `ClientMaker`. It is imported when a provider first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from ._protocols import ProviderClient

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ._http import Host
    from ._pool import HttpPool

GROUP: Final = "standby.clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What a provider's client is made of: one section of `providers`, with one of its keys.

    Attributes:
        name: The provider's name.
        base_url: Up to the part that all endpoints share; the client's own where it is `None`.
        api_key: The key of this client; `None` for a server that needs none.
        headers: Extra headers of every call.
        connect_seconds: How long to wait for a connection.
        streams_may_end_without_finish: Whether a stream that just ends is complete.
        http: The connections, shared with other clients; they stay open.
        options: What only clients of other packages understand.
    """

    name: str
    base_url: str | None = None
    api_key: SecretStr | None = None
    headers: Mapping[str, SecretStr] = field(default_factory=dict[str, "SecretStr"])
    connect_seconds: float | None = None
    streams_may_end_without_finish: bool = False
    api_version: str | None = None
    region: str | None = None
    project: str | None = None
    location: str | None = None
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    http: HttpPool | Host | None = None


ClientMaker = Callable[[ClientSettings], ProviderClient]
"""Makes a client. It raises `ValueError` for settings that make no sense; the message quotes no secret."""


@cache
def client_maker(name: str) -> ClientMaker:
    """What makes the clients of this name.

    Raises:
        LookupError: No installed package has one.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - takes a while, and only providers have clients

    for entry in entry_points(group=GROUP, name=name):
        return cast("ClientMaker", entry.load())
    raise LookupError(f"no installed package has a client that is named {name!r}")
