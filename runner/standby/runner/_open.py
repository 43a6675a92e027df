"""A runner from a configuration document: the stores that it names are opened, and closed with it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from standby import store as documents
from standby.store import (
    CLIENTS,
    Audit,
    Catalog,
    Finding,
    History,
    InvalidConfig,
    KnownClients,
    MemoryCatalog,
    MemoryHistory,
    MemoryState,
    SharedLimits,
    Snapshot,
    State,
    reloaded,
)

from ._clients import ClientFactory, unfit_clients
from ._runner import Runner

if TYPE_CHECKING:
    from standby.clients import Host, HttpPool
    from standby.store import Document
    from standby.store.sql import SqlCatalog

AT_THE_START = "at the start"

Replace = Callable[[Mapping[str, Any], str, str], Awaitable[Snapshot]]
"""Makes a raw document the newest version of a catalog: the document, who wants it, and why."""
Reread = Callable[[Mapping[str, Any]], "Document"]
"""A raw document -> a valid one, or `InvalidConfig`."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A runner and the configuration that it was opened with.

    Attributes:
        runner: Who runs requests.
        document: The configuration, as it was when the gateway was opened.
    """

    runner: Runner
    document: Document
    _replace: Replace

    async def reload(self, raw: Mapping[str, Any], *, by: str = "host", why: str = "") -> int:
        """Make the models, providers and policies of ``raw`` the catalog's newest version, and return its number.

        Runs that are under way keep theirs; the server and store sections are read at the start only. A document
        without models makes no version: then the newest of the store is served.

        Args:
            raw: The document as it was written.
            by: Who wants it, for the audit.
            why: In words, for the audit.

        Raises:
            InvalidConfig: The document is wrong; the old version goes on serving.
            StoreError: The store cannot be written; the old version goes on serving.
        """
        return (await self._replace(raw, by, why)).version


@asynccontextmanager
async def open_gateway(
    config: str | os.PathLike[str] | Mapping[str, Any],
    *,
    clients: Mapping[str, ClientFactory] | None = None,
    http: HttpPool | Host | None = None,
    processes: int = 1,
    where: str | None = None,
    imports: bool = True,
    last_good: str | os.PathLike[str] | None = None,
) -> AsyncGenerator[Gateway, None]:
    """Open what a configuration document describes.

    A document with models makes them the newest version of its store, where that does not say the same already. One
    without takes what the store has, and changes nothing in it.

    Args:
        config: The document's file, or the document.
        clients: Makers of clients beside the installed ones, by the name that a provider's ``client`` has.
        http: See `Runner`.
        processes: See `Runner`.
        where: The file that a document was read from, for errors and the audit.
        imports: Whether the document becomes the newest version of a catalog that is kept. A process that joins others
            had better serve what they serve: whatever was imported since they began.
        last_good: A file, ``.yaml``, that has a copy of the catalog that was served last. Where it is given, a store
            that cannot be reached is no error: the document's own models are served, or else the copy's, and the store
            is gone over to when it can be reached. So is a state that is on a server of its own.

    Raises:
        InvalidConfig: The document is wrong, or keeps all in memory, where ``last_good`` would mean nothing.
        StoreError: A store that it names cannot be opened, and there is no copy of what it had.
    """
    raw = config if isinstance(config, Mapping) else documents.read(config)
    file = where or (None if isinstance(config, Mapping) else os.fspath(config))
    origin = ("configuration", "host") if file is None else (file, "file")
    known = KnownClients(clients or ())
    read_again = partial(_document, own=tuple(clients or ()), where=origin[0])
    document = read_again(raw)
    if last_good is not None and document.store.url == document.store.state_url == "memory:":
        message = "all is kept in memory, so no store can be away at the start: leave out the last good copy"
        raise InvalidConfig([Finding("store.url", "memory:", message)], origin[0])
    async with AsyncExitStack() as stack:
        catalog, replace, state, history = await _stores(
            stack, raw, document, *origin, known, read_again, imports=imports, last_good=last_good
        )
        limits: SharedLimits | None = getattr(state, "limits", None)  # Valkey's state counts for all processes
        runner = Runner(catalog, state, history=history, limits=limits, processes=processes, clients=clients, http=http)
        await stack.enter_async_context(runner)
        yield Gateway(runner, document, replace)


async def _stores(
    stack: AsyncExitStack,
    raw: Mapping[str, Any],
    document: Document,
    where: str,
    by: str,
    clients: Collection[str],
    reread: Reread,
    *,
    imports: bool,
    last_good: str | os.PathLike[str] | None,
) -> tuple[Catalog, Replace, State, History]:
    """What the document's `store` section names, opened; a part that is kept in memory is not kept at all."""
    url, state_url = document.store.url, document.store.state_url
    required = last_good is None
    catalog: Catalog
    history: History
    if url == "memory:":
        catalog, history = MemoryCatalog(document.snapshot()), MemoryHistory()
        history.note([reloaded(time.time(), by, catalog.snapshot().version, where, AT_THE_START)])
        replace = partial(_replaced_in_memory, catalog, history, reread, where)
    else:
        from standby.store.sql import open_sql  # noqa: PLC0415 - needs the extra, and only here

        store = await stack.enter_async_context(open_sql(url, clients=clients, required=required, last_good=last_good))
        catalog, history = store.catalog, store.history
        replace = partial(_replaced_in_store, store.catalog, reread, where)
        if document.models and (imports or not catalog.snapshot().models):
            if store.reached:
                await replace(raw, by, AT_THE_START)
            else:
                store.catalog.replace_later(raw, where, by=by, why=AT_THE_START)
        store.catalog.served()
        if state_url == url:
            return catalog, replace, store.state, history
    state: State = MemoryState(history.note)
    if state_url != "memory:":
        state = await stack.enter_async_context(
            open_state(state_url, document.store.state_prefix, clients=clients, audit=history.note, required=required)
        )
    return catalog, replace, state, history


def _document(raw: Mapping[str, Any], *, own: Collection[str], where: str) -> Document:
    """The document, of whose providers clients can be made.

    Raises:
        InvalidConfig: It is wrong, or its clients cannot be made.
    """
    document = documents.parse(raw, clients=KnownClients(own), where=where)
    if findings := unfit_clients(document.providers, own):
        raise InvalidConfig(findings, where)
    return document


async def _replaced_in_memory(
    catalog: MemoryCatalog, history: History, reread: Reread, where: str, raw: Mapping[str, Any], by: str, why: str
) -> Snapshot:
    document = reread(raw)
    if not document.models:
        message = "is required: this catalog is in memory, and store.url is read at the start only"
        raise InvalidConfig([Finding("models", "nothing", message)], where)
    served = catalog.snapshot()
    wanted = document.snapshot(served.version)
    if wanted == served:
        return served  # what says the same makes no version
    snapshot = catalog.replace(wanted)
    history.note([reloaded(time.time(), by, snapshot.version, where, why)])
    return snapshot


async def _replaced_in_store(
    catalog: SqlCatalog, reread: Reread, where: str, raw: Mapping[str, Any], by: str, why: str
) -> Snapshot:
    """A document without models makes no version: the newest of the store is served, whoever made it."""
    if reread(raw).models:
        return await catalog.replace(raw, where, by=by, why=why)
    return await catalog.look()


@asynccontextmanager
async def open_state(
    url: str,
    prefix: str = "standby",
    *,
    clients: Collection[str] = CLIENTS,
    audit: Audit | None = None,
    required: bool = True,
) -> AsyncGenerator[State, None]:
    """The run-time state at an address that `store.state_url` may have, but for ``memory:``.

    Args:
        url: The address.
        prefix: What every key in Valkey begins with.
        clients: The clients that a provider may name.
        audit: Is told what somebody did on purpose.
        required: Whether an engine that cannot be reached is an error; where not, it is gone over to when it can be.

    Raises:
        StoreError: It cannot be opened.
    """
    if url.startswith(("valkey", "redis")):
        from standby.store.valkey import ValkeyState  # noqa: PLC0415 - needs the extra, and only here

        async with ValkeyState(url, prefix=prefix, audit=audit, required=required) as state:
            yield state
    else:
        from standby.store.sql import open_sql  # noqa: PLC0415 - as above

        async with open_sql(url, clients=clients, audit=audit, required=required) as store:
            yield store.state
