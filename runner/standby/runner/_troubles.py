"""What is wrong with the stores now, and what goes on all the same: values, and words for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from standby.store import Catalog, History, State

from ._status import moment

MEANWHILE: Final = {
    "catalog": "version {version} goes on being served; newer ones are not seen, and reloads may be refused",
    "state": (
        "runs go on by what is known here, and within this process's share of limits that are shared; what they learn "
        "waits in memory, and is told when that is possible"
    ),
    "history": "records and the audit wait in memory; too many records make room, the oldest first, the audit never",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part of the stores that cannot do what it is for.

    Attributes:
        part: ``catalog``, ``state`` or ``history``.
        why: Which engine, and what is wrong with it.
        since: When that began, in seconds since the epoch; `None` where the store does not say.
        told: All of it in a sentence, with what goes on meanwhile.
    """

    part: str
    why: str
    since: float | None
    told: str


def troubles_of(catalog: Catalog, state: State, history: History) -> Iterator[Trouble]:
    """The parts that are in trouble, by what they say of themselves in ``trouble`` and ``trouble_since``."""
    for part, store in {"catalog": catalog, "state": state, "history": history}.items():
        why: str | None = getattr(store, "trouble", None)
        if why:
            since: float | None = getattr(store, "trouble_since", None)
            when = "" if since is None else f" since {moment(since)}"
            meanwhile = MEANWHILE[part].format(version=catalog.snapshot().version)
            yield Trouble(part, why, since, f"The {part} is in trouble{when}: {why}. Meanwhile {meanwhile}.")
