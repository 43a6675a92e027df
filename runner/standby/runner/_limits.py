"""Local capacity: what this process allows itself, and the queue of those who wait for it. Pure; told what time it is.

- A minute is any sixty seconds, not the clock's: a window counts exactly what was taken in the last sixty seconds.
- Tokens are taken by estimate before the call and settled from the provider's count after it.
- Whoever waits is served first come, first served among those who can use what becomes free; a run that arrives later
  takes nothing that somebody waits for. Capacity is handed over, not announced: who is woken already holds it.
- A lease is given back exactly once, whatever happens to its run.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from standby.store import RateLimitPolicy

WINDOW_SECONDS: Final = 60.0


class Window:
    """At most ``limit`` within any sixty seconds."""

    __slots__ = ("_limit", "_taken", "_used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: deque[_Taken] = deque()
        self._used = 0

    def free_at(self, amount: int, now: float) -> float:
        """When ``amount`` is next free: ``now``, or later. More than the limit is free when all of it is."""
        self._forget(now)
        surplus = self._used + min(amount, self._limit) - self._limit
        if surplus <= 0:
            return now
        for taken in self._taken:
            surplus -= taken.amount
            if surplus <= 0:
                return taken.at + WINDOW_SECONDS
        raise AssertionError("the window holds what it counts")

    def take(self, amount: int, now: float) -> _Taken:
        """Count ``amount`` from ``now`` on."""
        taken = _Taken(now, min(amount, self._limit))
        self._taken.append(taken)
        self._used += taken.amount
        return taken

    def settle(self, taken: _Taken, amount: int) -> None:
        """What was ``taken`` turned out to be ``amount``."""
        if taken.counted:
            self._used += amount - taken.amount
            taken.amount = amount

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0].at + WINDOW_SECONDS <= now:
            oldest = self._taken.popleft()
            oldest.counted = False
            self._used -= oldest.amount


@dataclass(slots=True)
class _Taken:
    at: float
    amount: int
    counted: bool = True


class Capacity:
    """What one candidate, or one caller's key, may use: requests, tokens, concurrency."""

    __slots__ = ("_concurrency", "_in_use", "_requests", "_tokens", "waiting")

    def __init__(self, policy: RateLimitPolicy) -> None:
        self._requests = Window(policy.requests_per_minute) if policy.requests_per_minute else None
        self._tokens = Window(policy.tokens_per_minute) if policy.tokens_per_minute else None
        self._concurrency = policy.concurrency
        self._in_use = 0
        self.waiting = 0
        """How many tickets wait for this capacity."""

    @property
    def in_use(self) -> int:
        """Leases that are out."""
        return self._in_use

    @property
    def counts_tokens(self) -> bool:
        """Whether a lease needs an estimate of tokens."""
        return self._tokens is not None

    def free_at(self, tokens: int, now: float) -> float:
        """When a lease is next to be had: ``now``, or later; infinity where only a lease given back can tell."""
        if self._concurrency is not None and self._in_use >= self._concurrency:
            return math.inf
        requests_at = self._requests.free_at(1, now) if self._requests else now
        tokens_at = self._tokens.free_at(tokens, now) if self._tokens else now
        return max(requests_at, tokens_at)

    def take(self, tokens: int, now: float) -> Lease:
        """Take a lease that `free_at` said is free."""
        self._in_use += 1
        return Lease(
            self,
            self._requests.take(1, now) if self._requests else None,
            self._tokens.take(tokens, now) if self._tokens else None,
        )

    def settle(self, taken: _Taken, tokens: int) -> None:
        """A lease's tokens turned out to be ``tokens``."""
        if self._tokens:
            self._tokens.settle(taken, tokens)

    def give_back(self, unused_request: _Taken | None) -> None:
        """A lease has ended; its request does not count where it was never made."""
        self._in_use -= 1
        if self._requests and unused_request is not None:
            self._requests.settle(unused_request, 0)


class Lease:
    """A right to make one call now."""

    __slots__ = ("_capacity", "_ended", "_request", "_tokens")

    def __init__(self, capacity: Capacity, request: _Taken | None, tokens: _Taken | None) -> None:
        self._capacity = capacity
        self._request = request
        self._tokens = tokens
        self._ended = False

    def settle(self, tokens: int) -> None:
        """The provider counted ``tokens``."""
        if self._tokens is not None:
            self._capacity.settle(self._tokens, tokens)

    def end(self, *, used: bool = True) -> None:
        """Give the lease back, once; where it was not ``used`` for a call, it counts for nothing."""
        if self._ended:
            return
        self._ended = True
        if not used:
            self.settle(0)
        self._capacity.give_back(None if used else self._request)


@dataclass(frozen=True, slots=True)
class Refused:
    """No lease now.

    Attributes:
        free_at: When one may be had, in seconds since the epoch; infinity where only a lease given back can tell.
    """

    free_at: float


class Ticket:
    """One run's place in a queue; it is served when ``key`` and ``lease`` are set."""

    __slots__ = ("key", "lease", "tokens", "wake", "wants")

    def __init__(self, wants: Sequence[tuple[str, Capacity]], tokens: int, wake: Callable[[], None]) -> None:
        self.wants = wants
        self.tokens = tokens
        self.wake = wake
        self.key: str | None = None
        self.lease: Lease | None = None

    def free_at(self, now: float) -> float:
        """When something that this ticket wants may next be free."""
        return min(capacity.free_at(self.tokens, now) for _, capacity in self.wants)


class Waiting:
    """The runs that wait for local capacity, first come first."""

    def __init__(self) -> None:
        self._tickets: dict[Ticket, None] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self, ticket: Ticket) -> None:
        """Wait behind everybody else."""
        self._tickets[ticket] = None
        for _, capacity in ticket.wants:
            capacity.waiting += 1

    def leave(self, ticket: Ticket) -> None:
        """Wait no longer; nothing happens to who does not wait."""
        if ticket in self._tickets:
            del self._tickets[ticket]
            for _, capacity in ticket.wants:
                capacity.waiting -= 1

    def serve(self, now: float) -> None:
        """Hand what is free to whoever waited longest for it, and wake them."""
        kept: set[Capacity] = set()
        for ticket in list(self._tickets):
            for key, capacity in ticket.wants:
                if capacity not in kept and capacity.free_at(ticket.tokens, now) <= now:
                    ticket.key, ticket.lease = key, capacity.take(ticket.tokens, now)
                    self.leave(ticket)
                    ticket.wake()
                    break
            else:
                # Somebody who needs little must not for ever overtake somebody who needs much.
                kept.update(capacity for _, capacity in ticket.wants)


class Limits:
    """The capacities of all candidates of one runner, kept over reloads while their policy stays the same."""

    def __init__(self) -> None:
        self._capacities: dict[str, tuple[RateLimitPolicy, Capacity]] = {}

    def capacity(self, key: str, policy: RateLimitPolicy) -> Capacity | None:
        """The capacity of ``key``; `None` where the policy limits nothing."""
        if policy.concurrency is policy.requests_per_minute is policy.tokens_per_minute is None:
            return None
        known = self._capacities.get(key)
        if known is None or known[0] != policy:
            known = self._capacities[key] = (policy, Capacity(policy))
        return known[1]

    @staticmethod
    def take(capacity: Capacity, tokens: int, now: float) -> Lease | Refused:
        """A lease, unless none is free or somebody already waits for it."""
        free_at = capacity.free_at(tokens, now)
        if free_at <= now and not capacity.waiting:
            return capacity.take(tokens, now)
        return Refused(max(free_at, now))
