"""The catalog that a document describes, or that its store has where it describes none."""

from __future__ import annotations

from pathlib import Path

import anyio

from standby.store import Document, Snapshot, StoreError, load


def catalog_of(config: Path) -> Snapshot:
    """The newest version of the catalog that goes with a document's file.

    Raises:
        InvalidConfig: The document is wrong.
        StoreError: The store that has the catalog cannot be opened, or has none.
    """
    return catalog_with(load(config))


def catalog_with(document: Document) -> Snapshot:
    """The same of a document that was read already."""
    if document.models:
        return document.snapshot()
    refuse_missing_file(document.store.url)
    return anyio.run(_in_store, document.store.url)


def refuse_missing_file(url: str) -> None:
    """Refuse to open a store that opening would make.

    Raises:
        StoreError: There is no such file.
    """
    if url.startswith("sqlite:///") and not (path := Path(url.removeprefix("sqlite:///"))).exists():
        raise StoreError(f"nothing is known yet: there is no {path}")


async def _in_store(url: str) -> Snapshot:
    from standby.store.sql import open_sql  # noqa: PLC0415 - needs the extra, and only here

    async with open_sql(url) as store:
        return store.catalog.served()
