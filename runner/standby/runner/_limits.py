"""Local capacity: what this process allows itself. Pure; told what time it is, by a clock that nobody sets.

- A minute is any sixty seconds, not the clock's: what counts is exactly what was taken in the last sixty seconds.
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


class Part:
    """What a lease holds of one capacity.

    Attributes:
        at: When it was taken.
        requests: How many requests it counts for: one, or none where its call was never made.
        tokens: How many tokens it counts for.
        counted: Whether it still counts: it was taken in the last minute.
    """

    __slots__ = ("at", "capacity", "counted", "requests", "tokens")

    def __init__(self, capacity: Capacity, at: float, tokens: int) -> None:
        self.capacity = capacity
        self.at = at
        self.requests = 1
        self.tokens = tokens
        self.counted = True


class Capacity:
    """What one candidate, one provider's key, or one caller's key may use: requests, tokens, concurrency.

    Attributes:
        policy: The limits.
        counts_tokens: Whether a lease needs an estimate of tokens.
        in_use: Leases that are out.
        waiters: Who waits for it, whoever goes first at the front; kept by the queue.
    """

    __slots__ = (
        "_counts",
        "_max_in_use",
        "_max_requests",
        "_max_tokens",
        "_requests",
        "_taken",
        "_tokens",
        "counts_tokens",
        "in_use",
        "policy",
        "waiters",
    )

    def __init__(self, policy: RateLimitPolicy) -> None:
        self.policy = policy
        self.counts_tokens = policy.tokens_per_minute is not None
        self.in_use = 0
        self.waiters: list[Ticket] = []
        self._max_in_use = math.inf if policy.concurrency is None else policy.concurrency
        self._max_requests = math.inf if policy.requests_per_minute is None else policy.requests_per_minute
        self._max_tokens = math.inf if policy.tokens_per_minute is None else policy.tokens_per_minute
        self._counts = self.counts_tokens or policy.requests_per_minute is not None
        self._taken: deque[Part] = deque()
        self._requests = 0
        self._tokens = 0

    def used(self, now: float) -> tuple[int, int]:
        """Requests and tokens of the last minute; 0 of what is not limited."""
        self._forget(now)
        policy = self.policy
        return self._requests if policy.requests_per_minute else 0, self._tokens if policy.tokens_per_minute else 0

    def free_at(self, tokens: int, now: float) -> float:
        """When a part of a lease is next to be had: ``now``, or later; infinity where only one given back can tell.

        More tokens than the limit are free when all of them are.
        """
        if self.in_use >= self._max_in_use:
            return math.inf
        if self._taken and self._taken[0].at + WINDOW_SECONDS <= now:
            self._forget(now)
        requests = self._requests + 1 - self._max_requests
        surplus = self._tokens + min(tokens, self._max_tokens) - self._max_tokens
        if requests <= 0 and surplus <= 0:
            return now
        for part in self._taken:
            requests -= part.requests
            surplus -= part.tokens
            if requests <= 0 and surplus <= 0:
                return part.at + WINDOW_SECONDS
        raise AssertionError("a capacity holds what it counts")

    def take(self, tokens: int, now: float) -> Part:
        """Take what `free_at` said is free."""
        self.in_use += 1
        part = Part(self, now, tokens if tokens <= self._max_tokens else int(self._max_tokens))
        if self._counts:
            self._taken.append(part)
            self._requests += 1
            self._tokens += part.tokens
        return part

    def settle(self, part: Part, tokens: int) -> None:
        """The tokens of a part turned out to be ``tokens``."""
        if part.counted and self._counts:
            self._tokens += tokens - part.tokens
        part.tokens = tokens

    def give_back(self, part: Part, *, used: bool) -> None:
        """A part is over; what it was not ``used`` for counts for nothing."""
        self.in_use -= 1
        if not used:
            self.settle(part, 0)
            if part.counted and self._counts:
                self._requests -= part.requests
            part.requests = 0

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0].at + WINDOW_SECONDS <= now:
            oldest = self._taken.popleft()
            oldest.counted = False
            self._requests -= oldest.requests
            self._tokens -= oldest.tokens


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
        free_at: When one may be had; infinity where only a lease given back can tell.
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
