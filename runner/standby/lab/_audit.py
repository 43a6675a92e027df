"""The audit, for a person: from a running gateway, or from the store that a document names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

from standby.runner import moment
from standby.store import load

from ._catalog import refuse_missing_file
from ._server import NoState, asked_of_server

Lines = Sequence[Mapping[str, Any]]
"""Lines of the audit, the newest first, as `GET /admin/audit` says them."""


def audit_of_server(url: str, key: str, limit: int) -> Lines:
    """The newest lines of the audit that a running gateway has, at most ``limit``.

    Raises:
        NoState: It does not answer, or not like that.
    """
    return asked_of_server(url, f"/admin/audit?limit={limit}", "audit", key)


def audit_of_store(config: Path, limit: int) -> Lines:
    """The newest lines of the audit that the store of a document has, at most ``limit``.

    Raises:
        InvalidConfig: The document is wrong.
        StoreError: The store cannot be opened or read.
        NoState: The audit is in the memory of the process that serves.
    """
    url = load(config).store.url
    if url == "memory:":
        raise NoState("the audit is in the memory of the process that serves: ask it, with --server http://HOST:PORT")
    refuse_missing_file(url)
    return anyio.run(_audit_of_store, url, limit)


async def _audit_of_store(url: str, limit: int) -> Lines:
    from standby.store.sql import open_sql  # noqa: PLC0415 - needs the extra, and only here

    async with open_sql(url) as store:
        return [asdict(line) for line in await store.history.audit(limit)]


def audit_in_words(lines: Iterable[Mapping[str, Any]]) -> str:
    """A line each."""
    told = ((line, f": {line['why']}" if line["why"] else "") for line in lines)
    return "\n".join(f"{moment(line['at'])}  {line['who']}: {line['what']} {line['target']}{why}" for line, why in told)
