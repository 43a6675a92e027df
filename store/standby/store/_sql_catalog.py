"""The catalog in a database: raw documents by version, served from memory.

What is stored is what the operator wrote, with ``${NAME}`` still in its place: a secret that the environment holds
never enters the database, and every process fills in its own. So a version that one process could use may be invalid in
another: it is then refused there, with an error in the log, and the version before it keeps serving.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol, cast

import anyio
from sqlalchemy import Table, and_, func, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ._audit import reloaded
from ._config import literal_secrets
from ._database import Database
from ._engine import POLL, log
from ._errors import StoreError
from ._findings import Finding, InvalidConfig
from ._protocols import Snapshot
from ._sql_tables import DOCUMENTS, audit, catalog_versions

_MAX_STEPS_BACK = 10


class Parsed(Protocol):
    """A valid document."""

    def snapshot(self, version: int) -> Snapshot:
        """The part of it that is the catalog."""
        ...


Parse = Callable[[Mapping[str, Any]], Parsed]
"""A raw document -> a valid one, or a `ValueError` that says everything that is wrong with it."""


class SqlCatalog:
    """A catalog in a database, shared with every process that uses the same file."""

    def __init__(self, file: Database, parse: Parse) -> None:
        self._file = file
        self._parse = parse
        self._snapshot = Snapshot(0)
        self._document: Mapping[str, Any] = {}
        self._provisional = False
        self._wanted: Callable[[], Awaitable[Snapshot]] | None = None
        self._changed = anyio.Event()
        self._looking = anyio.Lock()
        self._looked_at = 0
        self._refused: str | None = None
        self._refused_at = 0.0

    @property
    def trouble(self) -> str | None:
        """Why the newest version in the database is not the one that is served; `None` when it is."""
        return self._file.trouble(POLL) or self._refused

    @property
    def trouble_since(self) -> float | None:
        """Since when, in seconds since the epoch."""
        return self._file.since(POLL) or (self._refused_at if self._refused else None)

    def snapshot(self) -> Snapshot:
        """The newest valid version, from local memory; version 0, with no models, where nothing was ever stored."""
        return self._snapshot

    def served(self) -> Snapshot:
        """The newest valid version, as `snapshot` tells it.

        Raises:
            StoreError: There is none: nothing was ever stored, or nothing that is valid here.
        """
        if not self._snapshot.models:
            nothing = f"{self._file.name} has no catalog yet: import a document that has models"
            away = self._file.trouble(POLL)
            raise StoreError(f"{away}; there is no copy of its catalog" if away else self._refused or nothing)
        return self._snapshot

    async def changed(self, version: int) -> Snapshot:
        """Wait until the newest version is not ``version``, and return it."""
        while self._snapshot.version == version:
            await self._changed.wait()
        return self._snapshot

    async def replace(self, raw_document: Mapping[str, Any], origin: str, *, by: str = "", why: str = "") -> Snapshot:
        """Make the catalog's sections of ``raw_document`` the newest version; runs in flight keep theirs.

        A document that says what is stored already makes no version. Of its other sections nothing is stored: they
        are each process's own.

        Args:
            raw_document: The document as it was written: with ``${NAME}``, not with what that stands for.
            origin: Where it came from, for the audit.
            by: Who wants it, for the audit; ``origin`` where left out.
            why: In words, for the audit.

        Raises:
            ValueError: The document is invalid. Everything that is wrong with it is said at once.
            StoreError: The database cannot be written.
        """
        parsed = self._parse(raw_document)
        if not raw_document.get("models"):
            raise InvalidConfig([Finding("models", "nothing", "is required: there is nothing to store")], origin)
        sections = _sections_of(raw_document)
        try:
            version = await self._file.finish(self._store(sections, origin, by or origin, why))
        except DBAPIError as error:
            raise StoreError(f"{self._file.words(error)}; the configuration was not stored") from error
        self._wanted = None
        if self._provisional or version >= self._snapshot.version:
            self._serve(parsed.snapshot(version), _whole(sections))
        return self._snapshot

    # -- while the database is away ------------------------------------------------------------------------------

    @property
    def stored(self) -> tuple[int, Mapping[str, Any]] | None:
        """The version that is served and its raw document; `None` where no database is known to hold it."""
        return None if self._provisional or not self._snapshot.version else (self._snapshot.version, self._document)

    def serve_copy(self, version: int, raw_document: Mapping[str, Any]) -> None:
        """Serve what was copied when the database was there, until it is there again.

        Raises:
            ValueError: The document is invalid. Everything that is wrong with it is said at once.
        """
        self._serve_provisionally(version, raw_document)

    def replace_later(self, raw_document: Mapping[str, Any], origin: str, *, by: str = "", why: str = "") -> None:
        """Serve ``raw_document`` at once, and `replace` by it as soon as the database can be written.

        Until then it has the number of the copy that is served, where that says the same, and otherwise 0.

        Raises:
            ValueError: The document is invalid. Everything that is wrong with it is said at once.
        """
        same = _whole(_sections_of(raw_document)) == self._document
        self._serve_provisionally(self._snapshot.version if same else 0, raw_document)
        self._wanted = partial(self.replace, raw_document, origin, by=by, why=why)

    async def catch_up(self) -> None:
        """Do what `replace_later` put off.

        Raises:
            StoreError: The database cannot be written.
        """
        if self._wanted is not None:
            await self._wanted()

    def _serve_provisionally(self, version: int, raw_document: Mapping[str, Any]) -> None:
        snapshot = self._parse(raw_document).snapshot(version)
        self._serve(snapshot, _whole(_sections_of(raw_document)), provisional=True)

    # -- following -----------------------------------------------------------------------------------------------

    async def document(self, version: int | None = None) -> dict[str, Any]:
        """The raw document of one version, by default of the newest in the database, as `replace` takes it.

        Raises:
            StoreError: The database cannot be read, or holds no such version.
        """
        try:
            return await self._file.finish(self._read(version))
        except DBAPIError as error:
            raise StoreError(f"{self._file.words(error)}; the configuration cannot be read") from error

    async def look(self) -> Snapshot:
        """Look now for a newer version, and return the one that is served.

        Raises:
            StoreError: The database cannot be read, or its newest version is not valid here.
        """
        try:
            await self._file.finish(self._look())
        except DBAPIError as error:
            raise StoreError(f"{self._file.words(error)}; the configuration cannot be read") from error
        if self._refused:
            raise StoreError(self._refused)
        return self._snapshot

    async def refresh(self, connection: AsyncConnection) -> None:
        """Serve the newest valid version in the database, where that is a newer one."""
        async with self._looking:  # who asks while another looks must not go by what that has not read yet
            await self._refresh(connection)

    async def _refresh(self, connection: AsyncConnection) -> None:
        newest = await _newest(connection)
        if not newest and self._provisional:
            self._refused = f"{self._file.name} has no catalog any more: the last good copy goes on being served"
            self._refused_at = self._refused_at or time.time()
        if newest <= self._looked_at:
            return
        self._looked_at = newest
        # A database that comes back may hold another catalog than the copy that is served: its own counts.
        served = 0 if self._provisional else self._snapshot.version
        for version in range(newest, max(served, newest - _MAX_STEPS_BACK), -1):
            document = _whole(await _sections(connection, version))
            try:
                snapshot = self._parse(document).snapshot(version)
            except ValueError as error:
                why = f"{self._file.name}: version {version} of the catalog is refused: {error}"
                log.error("%s", why)
                if version == newest:
                    self._refused, self._refused_at = why, time.time()
            else:
                self._serve(snapshot, document)
                break

    def _serve(self, snapshot: Snapshot, document: Mapping[str, Any], *, provisional: bool = False) -> None:
        was_provisional, self._provisional = self._provisional, provisional
        if not provisional:
            self._looked_at = max(self._looked_at, snapshot.version)
            if snapshot.version == self._looked_at:
                self._refused = None
            if snapshot.version == self._snapshot.version and not was_provisional:
                return
        self._snapshot, self._document = snapshot, document
        event, self._changed = self._changed, anyio.Event()
        event.set()

    async def _look(self) -> None:
        async with self._file.read() as connection:
            await self.refresh(connection)

    async def _read(self, version: int | None) -> dict[str, Any]:
        async with self._file.read() as connection:
            newest = await _newest(connection)
            if not 0 < (version or newest) <= newest:
                if not newest:
                    raise StoreError(f"{self._file.name} has no catalog yet: import a document that has models")
                raise StoreError(f"{self._file.name} holds no version {version} of the catalog: it has 1 to {newest}")
            return _whole(await _sections(connection, version or newest))

    async def _store(self, sections: Mapping[str, Mapping[str, Any]], origin: str, by: str, why: str) -> int:
        async with self._file.write(exclusive=True) as connection:
            newest = await _newest(connection)
            stored = await _sections(connection, newest)
            if newest and stored == sections:
                return newest
            for path in literal_secrets(sections):
                log.warning("%s is kept in %s as it was written: better name it, as ${NAME}", path, self._file.name)
            await self._file.say_that_it_stores(connection)
            replaced = await _origin(connection, newest)
            version, now = newest + 1, time.time()
            await connection.execute(insert(catalog_versions).values(version=version, imported_at=now, origin=origin))
            for section, table in DOCUMENTS.items():
                await _store_section(connection, table, version, stored[section], sections[section])
            await connection.execute(insert(audit), asdict(reloaded(now, by, version, origin, why)))
        if replaced not in (None, origin):
            # Two that import in turn undo each other's work: whoever did not mean that, must be able to see it.
            log.warning(
                "%s: version %d of the catalog, from %s, takes the place of version %d, which came from %s",
                *(self._file.name, version, origin, newest, replaced),
            )
        return version


async def _newest(connection: AsyncConnection) -> int:
    found = await connection.execute(select(func.coalesce(func.max(catalog_versions.c.version), 0)))
    return int(found.scalar_one())


async def _origin(connection: AsyncConnection, version: int) -> str | None:
    return await connection.scalar(select(catalog_versions.c.origin).where(catalog_versions.c.version == version))


async def _sections(connection: AsyncConnection, version: int) -> dict[str, dict[str, Any]]:
    """The catalog's sections as they were at ``version``."""
    sections: dict[str, dict[str, Any]] = {}
    for section, table in DOCUMENTS.items():
        last = select(table.c.name, func.max(table.c.version).label("version"))
        last_of_each = last.where(table.c.version <= version).group_by(table.c.name).subquery()
        is_last = and_(table.c.name == last_of_each.c.name, table.c.version == last_of_each.c.version)
        rows = select(table.c.name, table.c.document).join(last_of_each, is_last).order_by(table.c.name)
        found = await connection.execute(rows.where(table.c.document.is_not(None)))
        sections[section] = dict(found.all())
    return sections


async def _store_section(
    connection: AsyncConnection, table: Table, version: int, stored: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    changed = [
        {"name": name, "version": version, "document": wanted.get(name)}
        for name in sorted({*stored, *wanted})
        if stored.get(name) != wanted.get(name)
    ]
    if changed:
        await connection.execute(insert(table), changed)


def _sections_of(raw_document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {section: _copy(raw_document.get(section) or {}) for section in DOCUMENTS}


def _whole(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"version": 1, **{section: dict(documents) for section, documents in sections.items() if documents}}


def _copy(value: Any) -> Any:
    """A copy of a tree in the types that JSON gives back, so that what is stored compares equal to what was."""
    if isinstance(value, Mapping):
        return {name: _copy(inner) for name, inner in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_copy(inner) for inner in cast("list[Any]", value)]
    return value
