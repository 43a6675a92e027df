"""How the candidates stand now, for a person: from a running gateway, or from the stores that a document names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from standby.runner import Runner, open_state
from standby.store import MemoryCatalog, load

from ._catalog import catalog_with, refuse_missing_file
from ._server import NoState, asked_of_server

States = Sequence[Mapping[str, Any]]
"""What `GET /admin/candidates` says of each candidate; ``told`` has it in sentences."""


def state_of_server(url: str, key: str) -> States:
    """What a running gateway knows: all of it, what is in its memory too.

    Args:
        url: Where it listens.
        key: Its admin key; empty where it has none, and is on this machine.

    Raises:
        NoState: It does not answer, or not like that.
    """
    return asked_of_server(url, "/admin/candidates", "candidates", key)


def state_of_stores(config: Path) -> States:
    """What the state store of a document has: cooldowns, disablements, demotions and probes; nothing else outlives.

    Raises:
        InvalidConfig: The document is wrong.
        StoreError: A store cannot be opened, or has nothing yet.
        NoState: The state is in the memory of the process that serves.
    """
    document = load(config)
    url = document.store.state_url
    if url == "memory:":
        raise NoState("the state is in the memory of the process that serves: ask it, with --server http://HOST:PORT")
    refuse_missing_file(url)
    return anyio.run(_state_of_store, url, document.store.state_prefix, MemoryCatalog(catalog_with(document)))


async def _state_of_store(url: str, prefix: str, catalog: MemoryCatalog) -> States:
    async with open_state(url, prefix) as state, Runner(catalog, state) as runner:
        return [status.as_dict() for status in runner.statuses()]


def state_in_words(states: Iterable[Mapping[str, Any]]) -> str:
    """The candidates, each with its sentences."""
    lines: list[str] = []
    for state in states:
        rank = f"{state['priority']}" if state["priority"] == state["effective_priority"] else _rank(state)
        lines.append(f"{state['key']}: {state['status'].replace('_', ' ')}, rank {rank}")
        lines += [f"  {sentence}" for sentence in state["told"]]
    return "\n".join(lines)


def _rank(state: Mapping[str, Any]) -> str:
    return f"{state['effective_priority']} = {state['priority']} + {state['effective_priority'] - state['priority']}"
