"""Local capacity: what this process allows itself. Pure; told what time it is.

- A minute is any sixty seconds, not the clock's: a window counts exactly what was taken in the last sixty seconds.
- Tokens are taken by estimate before the call and settled from the provider's count after it.
- A call may need capacity of several: its candidate's own, and what all that use the same key have together. It takes
  all of it or none.
- A lease is given back exactly once, whatever happens to its run.

Who waits for capacity, and who goes first, is told in `_queue.py`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from standby.store import RateLimitPolicy

if TYPE_CHECKING:
    from ._queue import Ticket

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

    def used(self, now: float) -> int:
        """What was taken in the last sixty seconds."""
        self._forget(now)
        return self._used

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
    """What one candidate, one provider's key, or one caller's key may use: requests, tokens, concurrency.

    Attributes:
        policy: The limits.
        waiters: Who waits for it, whoever goes first at the front; kept by the queue.
    """

    __slots__ = ("_concurrency", "_in_use", "_requests", "_tokens", "policy", "waiters")

    def __init__(self, policy: RateLimitPolicy) -> None:
        self.policy = policy
        self.waiters: list[Ticket] = []
        self._requests = Window(policy.requests_per_minute) if policy.requests_per_minute else None
        self._tokens = Window(policy.tokens_per_minute) if policy.tokens_per_minute else None
        self._concurrency = math.inf if policy.concurrency is None else policy.concurrency
        self._in_use = 0

    @property
    def in_use(self) -> int:
        """Leases that are out."""
        return self._in_use

    @property
    def counts_tokens(self) -> bool:
        """Whether a lease needs an estimate of tokens."""
        return self._tokens is not None

    def used(self, now: float) -> tuple[int, int]:
        """Requests and tokens of the last minute; 0 of what is not limited."""
        return (
            self._requests.used(now) if self._requests else 0,
            self._tokens.used(now) if self._tokens else 0,
        )

    def free_at(self, tokens: int, now: float) -> float:
        """When a part of a lease is next to be had: ``now``, or later; infinity where only one given back can tell."""
        if self._in_use >= self._concurrency:
            return math.inf
        requests_at = self._requests.free_at(1, now) if self._requests else now
        tokens_at = self._tokens.free_at(tokens, now) if self._tokens else now
        return max(requests_at, tokens_at)

    def take(self, tokens: int, now: float) -> Part:
        """Take what `free_at` said is free."""
        self._in_use += 1
        return Part(
            self,
            self._requests.take(1, now) if self._requests else None,
            self._tokens.take(tokens, now) if self._tokens else None,
        )

    def settle(self, part: Part, tokens: int) -> None:
        """The tokens of a part turned out to be ``tokens``."""
        if self._tokens is not None and part.tokens is not None:
            self._tokens.settle(part.tokens, tokens)

    def give_back(self, part: Part, *, used: bool) -> None:
        """A part is over; what it was not ``used`` for counts for nothing."""
        self._in_use -= 1
        if not used:
            self.settle(part, 0)
            if self._requests is not None and part.request is not None:
                self._requests.settle(part.request, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """What a lease holds of one capacity."""

    capacity: Capacity
    request: _Taken | None
    tokens: _Taken | None


class Lease:
    """A right to make one call now.

    Attributes:
        parts: What it holds of each capacity that the call needs.
    """

    __slots__ = ("_ended", "parts")

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        self._ended = False

    def settle(self, tokens: int) -> None:
        """The provider counted ``tokens``."""
        for part in self.parts:
            part.capacity.settle(part, tokens)

    def end(self, *, used: bool = True) -> None:
        """Give the lease back, once; where it was not ``used`` for a call, it counts for nothing."""
        if not self._ended:
            self._ended = True
            for part in self.parts:
                part.capacity.give_back(part, used=used)


@dataclass(frozen=True, slots=True)
class Refused:
    """No lease now.

    Attributes:
        free_at: When one may be had, in seconds since the epoch; infinity where only a lease given back can tell.
    """

    free_at: float


def free_at(capacities: Iterable[Capacity], tokens: int, now: float) -> float:
    """When a lease of all of these is next to be had."""
    at = now
    for capacity in capacities:
        at = max(at, capacity.free_at(tokens, now))
    return at


class Limits:
    """The capacities of one runner, or of a server's callers, kept over reloads while their policy stays the same."""

    def __init__(self) -> None:
        self._capacities: dict[str, Capacity] = {}

    def capacity(self, key: str, policy: RateLimitPolicy) -> Capacity | None:
        """The capacity of ``key``; `None` where the policy limits nothing."""
        if policy.concurrency is policy.requests_per_minute is policy.tokens_per_minute is None:
            return None
        known = self._capacities.get(key)
        if known is None or known.policy != policy:
            known = self._capacities[key] = Capacity(policy)
        return known

    @staticmethod
    def take(capacities: Sequence[Capacity], tokens: int, now: float) -> Lease | Refused:
        """A lease of all of these, unless one has no room."""
        at = free_at(capacities, tokens, now)
        if at > now:
            return Refused(at)
        return Lease(tuple([capacity.take(tokens, now) for capacity in capacities]))
