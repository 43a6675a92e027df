"""The provider clients of one runner, made from the catalog's providers.

A client is kept as long as its provider's settings stay the same, over any number of reloads. One that a reload
replaced is closed with the runner, since runs that are pinned to the older version may still use it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from standby.clients import ClientSettings, ProviderClient, client_maker
from standby.store import Finding, Snapshot

from ._route import credentials_of

if TYPE_CHECKING:
    from standby.clients import Host, HttpPool
    from standby.store import Provider

ClientFactory = Callable[["Provider"], ProviderClient]
"""Makes a client from a provider's settings."""


class Clients:
    """Makes and keeps clients; those that are installed share one pool of connections."""

    def __init__(self, factories: Mapping[str, ClientFactory], http: HttpPool | Host | None = None) -> None:
        self._factories = factories
        self._http = http
        self._pool: HttpPool | None = None
        self._made: dict[str, tuple[Provider, ProviderClient]] = {}
        self._replaced: list[ProviderClient] = []

    def of(self, snapshot: Snapshot) -> Mapping[str, ProviderClient]:
        """The clients of all providers of ``snapshot``, one a key, by the key's name in the whole gateway."""
        return {
            credential.name: self._client(credential.name, credential.provider)
            for name, provider in snapshot.providers.items()
            for credential in credentials_of(name, provider)
        }

    async def aclose(self) -> None:
        """Close every client that was made, and the pool if it is our own."""
        clients = [*self._replaced, *(client for _, client in self._made.values())]
        self._replaced, self._made = [], {}
        async with AsyncExitStack() as closing:  # one that cannot be closed keeps no other open
            if self._pool is not None and self._pool is not self._http:
                closing.push_async_callback(self._pool.aclose)
            for client in clients:
                closing.push_async_callback(client.aclose)

    def _client(self, name: str, provider: Provider) -> ProviderClient:
        known = self._made.get(name)
        if known is not None and known[0] == provider:
            return known[1]
        if known is not None:
            self._replaced.append(known[1])
        factory = self._factories.get(provider.client)
        client = self._installed(name, provider) if factory is None else factory(provider)
        self._made[name] = provider, client
        return client

    def _installed(self, name: str, provider: Provider) -> ProviderClient:
        # Imported here, since a runner of custom clients alone needs no HTTP library.
        from standby.clients import HttpPool  # noqa: PLC0415

        if self._pool is None:
            self._pool = HttpPool.of(self._http)
        return client_maker(provider.client)(_settings(name, provider, self._pool))


def unfit_clients(providers: Mapping[str, Provider], own: Collection[str] = ()) -> list[Finding]:
    """What an installed client says of the settings that it would be made of, though each is right by itself.

    Args:
        providers: The providers of a document.
        own: The clients that the host makes itself, which are not asked.
    """
    from standby.clients import HttpPool  # noqa: PLC0415 - as above

    pool = HttpPool(library="httpx")  # nothing is opened
    findings: list[Finding] = []
    for name, provider in providers.items():
        if provider.client in own:
            continue
        try:
            for credential in credentials_of(name, provider):
                client_maker(provider.client)(_settings(credential.name, credential.provider, pool))
        except ValueError as error:
            findings.append(Finding(f"providers.{name}", f"client: {provider.client}", str(error)))
    return findings


def _settings(name: str, provider: Provider, pool: HttpPool) -> ClientSettings:
    return ClientSettings(
        name=name,
        base_url=provider.base_url,
        api_key=provider.api_key,
        headers=provider.headers,
        connect_seconds=provider.timeouts.connect_seconds,
        streams_may_end_without_finish=provider.streams_may_end_without_finish,
        api_version=provider.api_version,
        region=provider.region,
        project=provider.project,
        location=provider.location,
        access_key_id=provider.access_key_id,
        secret_access_key=provider.secret_access_key,
        session_token=provider.session_token,
        options=provider.options,
        http=pool,
    )
