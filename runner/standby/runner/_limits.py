"""Local capacity: what this process allows itself. Pure; told what time it is, by a clock that nobody sets.

- A minute is any sixty seconds, not the clock's: what counts is exactly what was taken in the last sixty seconds.
- Tokens are taken by estimate before the call and settled from the provider's count after it.
- A call may need capacity of several: its candidate's own, and what all that use the same key have together. It takes
  all of it or none.
- A lease is given back exactly once, whatever happens to its run.
- A limit that processes share is held to here first, and asked of the others after that (`Limits.confirm`). Where they
  have no room for somebody who waits, one at a time asks again: when time has come, or room was told of.

Who waits for capacity, and who goes first, is told in `_queue.py`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from standby.store import Asked, Full, Grant, SharedLimits

if TYPE_CHECKING:
    from standby.store import RateLimitPolicy

    from ._queue import Ticket

WINDOW_SECONDS: Final = 60.0
ASK_AGAIN_SECONDS: Final = 1.0
"""Room among many processes is told of; whoever waits for it asks every now and then all the same."""


class Part:
    """What a lease holds of one capacity.

    Attributes:
        at: When it was taken.
        requests: How many requests it counts for: one, or none where its call was never made.
        tokens: How many tokens it counts for.
        counted: Whether it still counts: it was taken in the last minute.
        to_be_asked: Whether the other processes are still to be asked for it.
    """

    __slots__ = ("at", "capacity", "counted", "requests", "to_be_asked", "tokens")

    def __init__(self, capacity: Capacity, at: float, tokens: int) -> None:
        self.capacity = capacity
        self.at = at
        self.requests = 1
        self.tokens = tokens
        self.counted = True
        self.to_be_asked = capacity.shared


class Capacity:
    """What one candidate, one provider's key, or one caller's key may use: requests, tokens, concurrency.

    Attributes:
        key: Whose it is.
        policy: The limits.
        shared: Whether other processes have to be asked as well.
        counts_tokens: Whether a lease needs an estimate of tokens.
        in_line: Runs that wait for it, or ask for it as they wait; counted where it is shared.
        in_use: Leases that are out.
        told: How often the other processes told of room.
        waiters: Who waits for it, whoever goes first at the front; kept by the queue.
    """

    __slots__ = (
        "_asking",
        "_contended",
        "_counts",
        "_max_in_use",
        "_max_requests",
        "_max_tokens",
        "_not_before",
        "_requests",
        "_taken",
        "_tokens",
        "counts_tokens",
        "in_line",
        "in_use",
        "key",
        "policy",
        "shared",
        "told",
        "waiters",
    )

    def __init__(self, policy: RateLimitPolicy, *, key: str = "", shared: bool = False, share: float = 1.0) -> None:
        self.key = key
        self.policy = policy
        self.shared = shared
        self.counts_tokens = policy.tokens_per_minute is not None
        self.in_line = 0
        self.in_use = 0
        self.told = 0
        self.waiters: list[Ticket] = []
        self.use_share(share)
        self._contended = False
        self._asking = 0
        self._not_before = 0.0
        self._counts = self.counts_tokens or policy.requests_per_minute is not None
        self._taken: deque[Part] = deque()
        self._requests = 0
        self._tokens = 0

    def use_share(self, share: float) -> None:
        """From now on this process may use so much of the limits; one at least, else nothing could ever be called."""
        policy = self.policy
        self._max_in_use = _part_of(policy.concurrency, share)
        self._max_requests = _part_of(policy.requests_per_minute, share)
        self._max_tokens = _part_of(policy.tokens_per_minute, share)

    @property
    def exceeded(self) -> bool:
        """Whether more is taken than this process may use: its share was larger then."""
        return self.in_use > self._max_in_use or self._requests > self._max_requests or self._tokens > self._max_tokens

    def used(self, now: float) -> tuple[int, int]:
        """Requests and tokens of the last minute; 0 of what is not limited."""
        self._forget(now)
        policy = self.policy
        return self._requests if policy.requests_per_minute else 0, self._tokens if policy.tokens_per_minute else 0

    def free_at(self, tokens: int, now: float) -> float:
        """When a part of a lease is next to be had: ``now``, or later; infinity where only one given back can tell.

        More tokens than the limit are free when all of them are.
        """
        if self.in_use >= self._max_in_use or (self._contended and self._asking):
            return math.inf
        return max(self._room_at(tokens, now), self._not_before)

    def _room_at(self, tokens: int, now: float) -> float:
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

    def take(self, tokens: int, now: float) -> Part | None:
        """Take a part; `None` where `free_at` is later."""
        taken = self._taken
        if taken and taken[0].at + WINDOW_SECONDS <= now:
            self._forget(now)
        if not self.counts_tokens:
            tokens = 0  # nothing counts them, and a caller may have asked for any number
        elif tokens > self._max_tokens:
            tokens = int(self._max_tokens)
        if (
            self.in_use >= self._max_in_use
            or self._requests >= self._max_requests
            or self._tokens + tokens > self._max_tokens
            or (self._contended and self.free_at(tokens, now) > now)
        ):
            return None
        self.in_use += 1
        if self.shared:
            self._asking += 1
        part = Part(self, now, tokens)
        if self._counts:
            taken.append(part)
            self._requests += 1
            self._tokens += tokens
        return part

    def _settle(self, part: Part, tokens: int) -> None:
        if part.counted and self._counts:
            self._tokens += tokens - part.tokens
        part.tokens = tokens

    def give_back(self, part: Part, *, used: bool, tokens: int | None = None) -> None:
        """A part is over; what it was not ``used`` for counts for nothing, and it may have been other ``tokens``."""
        self.in_use -= 1
        if part.to_be_asked:
            self.asked(part)
        if not used:
            self._settle(part, 0)
            if part.counted and self._counts:
                self._requests -= part.requests
                if self._taken[-1] is part:
                    self._taken.pop()
            part.requests = 0
        elif tokens is not None and tokens != part.tokens:
            self._settle(part, tokens)

    def asked(self, part: Part) -> None:
        """The other processes were asked for a part, or need not be."""
        part.to_be_asked = False
        self._asking -= 1

    def refused(self, until: float) -> None:
        """The other processes have no room; whoever waits may ask again at ``until``, or when room was told of."""
        self._contended, self._not_before = True, until

    def granted(self) -> None:
        """The other processes have room: nobody need be careful, but where others wait for it here."""
        self._not_before = 0.0
        self._contended = self._contended and bool(self.waiters)

    def told_of_room(self) -> None:
        """The other processes may have room again."""
        self.told += 1
        self.granted()

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
        grant: What other processes granted for it.
    """

    __slots__ = ("_ended", "grant", "parts")

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        self.grant: Grant | None = None
        self._ended = False

    def end(self, *, used: bool = True, tokens: int | None = None) -> None:
        """Give the lease back, once; where it was not ``used`` for a call, it counts for nothing.

        Args:
            used: Whether a call was made.
            tokens: How many the provider counted, where it did.
        """
        if not self._ended:
            self._ended = True
            for part in self.parts:
                part.capacity.give_back(part, used=used, tokens=tokens)
            if self.grant is not None:
                self.grant.end(used=used, tokens=tokens)


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
    """The capacities of one runner, kept over reloads while their policy stays the same.

    Args:
        others: Who counts for all processes; where left out nobody does.
        processes: How many there are then: each has its share of what they share.
        room: Is told of capacities that may have room again.

    Attributes:
        shares: Whether there are others to ask.
    """

    def __init__(
        self,
        others: SharedLimits | None = None,
        processes: int = 1,
        room: Callable[[Collection[Capacity]], None] | None = None,
    ) -> None:
        self._capacities: dict[str, Capacity] = {}
        self.shares = others is not None
        self._others = others
        self._share = 1 / processes
        self._room = room
        self._listens = False

    def capacity(self, key: str, policy: RateLimitPolicy) -> Capacity | None:
        """The capacity of ``key``; `None` where the policy limits nothing."""
        if policy.concurrency is policy.requests_per_minute is policy.tokens_per_minute is None:
            return None
        known = self._capacities.get(key)
        if known is None or known.policy != policy:
            shared = policy.shared and self._others is not None
            share = self._share_now if policy.shared else 1.0
            known = self._capacities[key] = Capacity(policy, key=key, shared=shared, share=share)
            if shared:
                self._listen()
        return known

    @property
    def _share_now(self) -> float:
        share = None if self._others is None else self._others.share
        if share is None:
            return self._share
        return share if share == 1 else min(share, self._share)

    async def confirm(self, lease: Lease, now: float, since: float, *, in_line: bool) -> Refused | None:
        """Ask the other processes for what ``lease`` holds here; where they refuse, or the caller leaves, it is ended.

        Args:
            lease: What is held here.
            now: What time it is.
            since: The moment since which the call has waited, and what its priority is worth.
            in_line: Whether it goes on waiting; see `Limits.in_line`.
        """
        parts = [part for part in lease.parts if part.to_be_asked]
        if not parts or self._others is None:
            return None
        asked = [Asked(part.capacity.key, part.capacity.policy, part.tokens) for part in parts]
        told = [part.capacity.told for part in parts]
        try:
            answer = await self._others.take(asked, now - since, in_line=in_line)
        except BaseException:
            lease.end(used=False)
            raise
        for part in parts:
            part.capacity.asked(part)
        if not isinstance(answer, Full):
            lease.grant = answer
            for part in parts:
                part.capacity.granted()
            if self._share_now < 1 and any(part.capacity.exceeded for part in parts):
                # Nobody could be asked after all, and it was taken while this process might use more than its share.
                lease.end(used=False)
                return Refused(max(part.capacity.free_at(part.tokens, now) for part in parts))
            return None
        lease.end(used=False)
        for part, before in zip(parts, told, strict=True):
            seconds = answer.free_in_seconds.get(part.capacity.key)
            # Whoever does not wait keeps nobody from asking: another may need less, and is to be in line.
            if seconds is not None and in_line:
                if part.capacity.told != before:
                    seconds = 0.0  # the answer was overtaken by what was told
                part.capacity.refused(now + (ASK_AGAIN_SECONDS if seconds == math.inf else seconds))
        return Refused(now + max(answer.free_in_seconds.values(), default=math.inf))

    @contextmanager
    def in_line(self, capacities: Iterable[Capacity]) -> Generator[None]:
        """Somebody waits for these meanwhile; the other processes hear when nobody here does any more."""
        shared = [capacity for capacity in capacities if capacity.shared]
        for capacity in shared:
            capacity.in_line += 1
        try:
            yield
        finally:
            for capacity in shared:
                capacity.in_line -= 1
            left = [capacity for capacity in shared if not capacity.in_line]
            for capacity in left:
                capacity.granted()
            if left and self._others is not None:
                self._others.leave([capacity.key for capacity in left])

    def _listen(self) -> None:
        if not self._listens and self._others is not None:
            self._listens = True
            self._others.listen(self._told_of_room, self._share_changed)

    def _told_of_room(self, keys: Collection[str]) -> None:
        found = [self._capacities[key] for key in keys if key in self._capacities]
        for capacity in found:
            capacity.told_of_room()
        if self._room is not None and found:
            self._room(found)

    def _share_changed(self) -> None:
        shared = {key: capacity for key, capacity in self._capacities.items() if capacity.shared}
        for capacity in shared.values():
            capacity.use_share(self._share_now)
        self._told_of_room(shared)

    @staticmethod
    def take(capacities: Sequence[Capacity], tokens: int, now: float) -> Lease | Refused:
        """A lease of all of these, unless one has no room."""
        parts: list[Part] = []
        for capacity in capacities:
            part = capacity.take(tokens, now)
            if part is None:
                for taken in parts:
                    taken.capacity.give_back(taken, used=False)
                return Refused(free_at(capacities, tokens, now))
            parts.append(part)
        return Lease(tuple(parts))


def _part_of(limit: int | None, share: float) -> float:
    return math.inf if limit is None else max(1, math.floor(limit * share + 1e-9))
