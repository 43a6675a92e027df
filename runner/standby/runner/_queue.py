"""Who waits for local capacity, and who goes first. Pure; told what time it is, by a clock that nobody sets.

- First come, first served among equals. A class of priority is worth seconds: `high` goes before what came up to
  `CLASS_SECONDS` earlier, `low` after what comes up to that much later. So nobody starves: who has waited long enough
  goes before anybody.
- A ticket wants one of several candidates, and of each the capacity of all its limits. It is served when all limits of
  one candidate have room; what it lacks is kept for it, so that somebody who needs little does not for ever overtake
  somebody who needs much. What it does not lack is not kept: who waits for one candidate holds up no other.
- Capacity is handed over, not announced: who is woken already holds it, and nobody is woken for nothing.
- A run that arrives later takes nothing that is kept for somebody.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Final

from standby.store import PriorityClass

from ._limits import Capacity, Lease, Limits, Refused, free_at

CLASS_SECONDS: Final = 10.0
HEAD_START: Final[dict[PriorityClass, float]] = {"high": CLASS_SECONDS, "normal": 0.0, "low": -CLASS_SECONDS}

Capacities = tuple[Capacity, ...]


class Ticket:
    """One run's place in the queue; it is served when ``key`` and ``lease`` are set.

    Args:
        wants: Each candidate's key that would do, with the capacities that a call of it needs.
        tokens: How many tokens the call will need, by estimate.
        wake: Called when the ticket is served.

    Attributes:
        due: When time alone may next give it something; infinity where that is never. Kept by `Queue.serve`.
        due_changed: Called when ``due`` is another time than before.
    """

    __slots__ = ("due", "due_changed", "key", "lease", "rank", "tokens", "wake", "wants")

    def __init__(self, wants: Sequence[tuple[str, Capacities]], tokens: int, wake: Callable[[], None]) -> None:
        self.wants = wants
        self.tokens = tokens
        self.wake = wake
        self.due = math.inf
        self.due_changed: Callable[[], None] = _nothing
        self.rank: tuple[float, int] = (0.0, 0)
        self.key: str | None = None
        self.lease: Lease | None = None

    def capacities(self) -> set[Capacity]:
        """Everything that it waits for."""
        return {capacity for _, capacities in self.wants for capacity in capacities}

    def free_at(self, now: float) -> float:
        """When something that this ticket wants may next be free."""
        return min(free_at(capacities, self.tokens, now) for _, capacities in self.wants)


class Queue:
    """The runs of one runner that wait for local capacity, whichever their model."""

    def __init__(self) -> None:
        self._waiting: dict[Ticket, str] = {}
        self._lengths: dict[str, int] = {}
        self._numbers = count()

    @property
    def anybody(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def length(self, model: str) -> int:
        """How many runs of ``model`` wait."""
        return self._lengths.get(model, 0)

    def take(self, capacities: Capacities, tokens: int, now: float) -> Lease | Refused:
        """A lease of all of these, unless one has no room, or is kept for somebody who waits for it."""
        if self._waiting and any(capacity.waiters for capacity in capacities):
            # Room that came with time is theirs; what they still lack then is kept for them.
            self.serve(capacities, now)
            if any(_kept(capacity, now) for capacity in capacities):
                return Refused(free_at(capacities, tokens, now))
        return Limits.take(capacities, tokens, now)

    def join(self, ticket: Ticket, model: str, priority: PriorityClass, came_up_at: float) -> None:
        """Wait, in the place of who came up then."""
        ticket.rank = (came_up_at - HEAD_START[priority], next(self._numbers))
        self._waiting[ticket] = model
        self._lengths[model] = self.length(model) + 1
        for capacity in ticket.capacities():
            insort(capacity.waiters, ticket, key=_rank)

    def leave(self, ticket: Ticket) -> None:
        """Wait no longer; nothing happens to who does not wait."""
        model = self._waiting.pop(ticket, None)
        if model is None:
            return
        self._lengths[model] -= 1
        if not self._lengths[model]:
            del self._lengths[model]
        for capacity in ticket.capacities():
            capacity.waiters.remove(ticket)

    def serve(self, capacities: Iterable[Capacity], now: float) -> None:
        """There may be room in these: hand it to whoever goes first for it, and wake them."""
        kept: set[Capacity] = set()
        for ticket in sorted(_connected(capacities), key=_rank):
            lacking: set[Capacity] = set()
            due = math.inf
            for key, wanted in ticket.wants:
                times = {each: each.free_at(ticket.tokens, now) for each in wanted}
                lacks = {each for each, at in times.items() if each in kept or at > now}
                taken = None if lacks else Limits.take(wanted, ticket.tokens, now)
                if isinstance(taken, Lease):
                    self.leave(ticket)
                    ticket.key, ticket.lease = key, taken
                    ticket.wake()
                    break
                lacking |= lacks
                # Not only when it may be served: what it lacks until then is kept for it until then, and not longer.
                due = min([due, *(at for at in times.values() if at > now)])
            else:
                kept |= lacking
                if due != ticket.due:
                    ticket.due = due
                    ticket.due_changed()


def _nothing() -> None:
    pass


def _connected(capacities: Iterable[Capacity]) -> set[Ticket]:
    """Everybody on whom it may depend who gets what there is of these, or what they then no longer wait for."""
    seen, tickets = set(capacities), set[Ticket]()
    left = list(seen)
    while left:
        for ticket in left.pop().waiters:
            if ticket not in tickets:
                tickets.add(ticket)
                left += new if (new := ticket.capacities() - seen) else ()
                seen |= new
    return tickets


def _rank(ticket: Ticket) -> tuple[float, int]:
    return ticket.rank


def _kept(capacity: Capacity, now: float) -> bool:
    """Whether somebody waits for want of this one."""
    return any(capacity.free_at(ticket.tokens, now) > now for ticket in capacity.waiters)
