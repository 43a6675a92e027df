"""How the candidates stand now, for a person: from a running gateway, or from the stores that a document names."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import anyio

from standby.runner import Runner, open_state
from standby.store import MemoryCatalog, load

TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024

States = Sequence[Mapping[str, Any]]
"""What `GET /admin/candidates` says of each candidate; ``told`` has it in sentences."""


class NoState(Exception):
    """The state cannot be had; the message says why, and what would help."""


def state_of_server(url: str, key: str) -> States:
    """What a running gateway knows: all of it, what is in its memory too.

    Args:
        url: Where it listens.
        key: Its admin key; empty where it has none, and is on this machine.

    Raises:
        NoState: It does not answer, or not like that.
    """
    if not url.startswith(("http://", "https://")):
        raise NoState(f"{url!r} is not an address: write http://HOST:PORT")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    asked = urllib.request.Request(f"{url.rstrip('/')}/admin/candidates", headers=headers)  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            told: object = json.loads(answer.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as refused:
        with refused:
            raise NoState(f"{url} answers {refused.code}: {_message(refused.read(MAX_ANSWER_BYTES))}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise NoState(f"no gateway answers at {url}: {reason}") from None
    candidates = cast("Mapping[str, object]", told).get("candidates") if isinstance(told, dict) else None
    if not isinstance(candidates, list):
        raise NoState(f"what answers at {url} is no gateway of this version")
    return cast("States", candidates)


def state_of_stores(config: Path) -> States:
    """What the state store of a document has: cooldowns, disablements, demotions and probes; nothing else outlives.

    Raises:
        InvalidConfig: The document is wrong.
        StoreError: The store cannot be opened.
        NoState: The state is in the memory of the process that serves.
    """
    document = load(config)
    url = document.store.state_url
    if url == "memory:":
        raise NoState("the state is in the memory of the process that serves: ask it, with --server http://HOST:PORT")
    if url.startswith("sqlite:///") and not (path := Path(url.removeprefix("sqlite:///"))).exists():
        raise NoState(f"nothing is known yet: there is no {path}")
    return anyio.run(_state_of_store, url, document.store.state_prefix, MemoryCatalog(document.snapshot()))


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


def _message(content: bytes) -> str:
    try:
        message: object = json.loads(content)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return "no words"
    return str(message)[:500]
