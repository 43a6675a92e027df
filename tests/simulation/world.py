"""A world in virtual time: providers that behave as the hour is, callers who do not wait for each other, the real runner.

Callers arrive by the clock, whether or not those before them were answered: only then does a provider that is slow or
down show what it does to everybody else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from random import Random
from typing import Any

from standby.runner import Request, Response, RunFailed, Runner, RunRecord
from standby.runner.testing import EPOCH, Fail, Outcome, ScriptedClient, Slow, VirtualClock, answer
from standby.store import MemoryCatalog, MemoryState, Standing

Behaviour = Callable[[Request], Outcome]
"""What a provider does with a call that has just come."""

OK = answer()
SERVER_ERROR = Fail("server_error", "down", status=500, retryable=True)
RESET = Fail("network", "connection reset by peer", retryable=True)
OVERLOADED = Fail("overloaded", "overloaded", status=529, retryable=True, scope="provider", work="rejected")


def answers(seconds: float | Callable[[], float]) -> Behaviour:
    """An answer after so many seconds, the same for every call or drawn for each."""
    if callable(seconds):
        return lambda _: Slow(seconds(), OK)
    answered = Slow(seconds, OK)
    return lambda _: answered


def fails(failure: Fail, seconds: float = 0.05) -> Behaviour:
    """A failure after so many seconds."""
    failed = Slow(seconds, failure)
    return lambda _: failed


def hangs() -> Behaviour:
    """No answer, however long one waits."""
    return lambda _: Slow(1e6)


def fails_some(share: float, failure: Fail, seconds: float, random: Random) -> Behaviour:
    """A failure for this share of the calls, an answer for the others."""
    failed, answered = Slow(seconds, failure), Slow(seconds, OK)
    return lambda _: failed if random.random() < share else answered


def long_tailed(random: Random, median: float, sigma: float, longest: float) -> Callable[[], float]:
    """Draws a time: half are shorter than the median, few are many times as long, none is longer than the longest."""
    return lambda: min(longest, median * random.lognormvariate(0.0, sigma))


def every(seconds: float, until: float, since: float = 0.0) -> Iterator[float]:
    """Arrivals at a fixed pace."""
    return (since + seconds * number for number in range(ceil((until - since) / seconds)))


def poisson(random: Random, per_second: float, until: float) -> Iterator[float]:
    """Arrivals at random, so many a second on average."""
    now = random.expovariate(per_second)
    while now < until:
        yield now
        now += random.expovariate(per_second)


class Watched(ScriptedClient):
    """A provider, and what was seen at its door.

    Args:
        behaviour: What it does with a call.
        room: How many calls it takes at once; those that find no room are refused by 529.

    Attributes:
        called_at: When each call came, in seconds of the simulation.
        probed_at: When each call came that found its candidate half open.
        answered_at: When each answer was given.
        most_probes: The most calls under way at once that had found it half open.
        busiest: The most calls under way at once.
    """

    def __init__(self, behaviour: Behaviour, *, room: float = inf) -> None:
        super().__init__(self._do)
        self.is_half_open: Callable[[float], bool] = lambda _: False
        self.called_at: list[float] = []
        self.probed_at: list[float] = []
        self.answered_at: list[float] = []
        self.most_probes = 0
        self.busiest = 0
        self._behaviour = behaviour
        self._fits = True
        self._room = room
        self._served = 0
        self._probes = 0

    async def send(self, request: Request) -> Response:
        """Do what the provider does now, and remember it."""
        now = asyncio.get_running_loop().time()
        self.called_at.append(now)
        self.busiest = max(self.busiest, self.in_flight + 1)
        probe, fits = self.is_half_open(now), self._served < self._room
        if probe:
            self.probed_at.append(now)
        self._fits = fits
        self._served += fits
        self._probes += probe
        self.most_probes = max(self.most_probes, self._probes)
        try:
            response = await super().send(request)
        finally:
            self._served -= fits
            self._probes -= probe
            self.calls.clear()
        self.answered_at.append(asyncio.get_running_loop().time())
        return response

    def _do(self, request: Request) -> Outcome:
        return self._behaviour(request) if self._fits else Slow(0.02, OVERLOADED)

    def first_answer(self, since: float) -> float:
        """When it first answered since then; infinity where it did not."""
        return next((at for at in self.answered_at if at >= since), inf)


@dataclass(frozen=True, slots=True)
class Told:
    """How one run went.

    Attributes:
        at: When its caller came, in seconds of the simulation.
        seconds: How long the caller waited.
        ending: How it ended.
        tries: Whom it called, in order.
        hedges: How many of those calls were made beside another.
        queued_seconds: How long it waited for local capacity.
        retry_after: What a failed run told its caller.
        priority: Its class.
    """

    at: float
    seconds: float
    ending: str
    tries: tuple[str, ...]
    hedges: int
    queued_seconds: float
    retry_after: float | None
    priority: str

    @property
    def answered(self) -> bool:
        """Whether somebody answered."""
        return self.ending == "answered"

    @property
    def retries(self) -> int:
        """Calls of somebody whom the run had called before."""
        return len(self.tries) - len(set(self.tries))


class World:
    """One model, `chat`, whose candidates are the providers in their order, under the recommended policies.

    Args:
        providers: What each provider does; candidates are named after them.
        model: More keys of the model.
        overrides: More policies of every candidate.
        same_priority: Whether all candidates have the same rank.
        seed: Of everything that the runner leaves to chance.
        more: More sections of the configuration document.
    """

    def __init__(
        self,
        providers: Mapping[str, Behaviour | Watched],
        *,
        model: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        same_priority: bool = False,
        seed: int = 1,
        **more: Any,
    ) -> None:
        self.state = MemoryState()
        self.providers = {
            name: each if isinstance(each, Watched) else Watched(each) for name, each in providers.items()
        }
        for name, provider in self.providers.items():
            provider.is_half_open = lambda now, name=name: self.half_open(name, now)
        listed = [
            {
                "id": name,
                "provider": name,
                "model": "m",
                "priority": 100 if same_priority else 100 + rank,
                "runtimePolicyOverride": dict(overrides or {}),
            }
            for rank, name in enumerate(providers)
        ]
        document = {
            "version": 1,
            "models": {"chat": {"candidates": listed, **(model or {})}},
            "providers": {name: {"client": name} for name in providers},
            **more,
        }
        self.runner = Runner(
            MemoryCatalog.from_mapping(document, environ={}, clients=tuple(providers)),
            self.state,
            clients={name: (lambda _, made=made: made) for name, made in self.providers.items()},
            clock=VirtualClock(),
            chance=Random(seed).random,
        )

    def __getitem__(self, name: str) -> Watched:
        return self.providers[name]

    def standings(self, name: str) -> list[Standing]:
        """What is held against a candidate's failure domains."""
        domains = f"candidate:chat/{name}", f"credential:{name}", f"credential_model:{name}/m", f"provider:{name}"
        return [standing for domain in domains if (standing := self.state.standing(domain)) is not None]

    def half_open(self, name: str, now: float) -> bool:
        """Whether a call of the candidate would be a probe."""
        return any(standing.half_open(EPOCH + now) for standing in self.standings(name))

    def cooling_until(self, name: str) -> float:
        """When the candidate's present cooldown ends, in seconds of the simulation; 0 where it has none."""
        return max(
            (standing.cooling_until - EPOCH for standing in self.standings(name) if standing.cooling_until), default=0.0
        )

    def cooldowns_at(self, at: float) -> dict[str, float]:
        """When the cooldown of each candidate ends that runs at that second; known when the simulation is past it."""
        ends: dict[str, float] = {}
        look = lambda: ends.update({name: self.cooling_until(name) for name in self.providers})  # noqa: E731
        asyncio.get_running_loop().call_at(at, look)
        return ends

    async def serve(self, arrivals: Iterable[float], priority: Callable[[], str] = lambda: "normal") -> list[Told]:
        """Let callers come at these times from now on; returns how their runs went, in the order in which they came."""
        told: list[Told] = []
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for seconds in arrivals:
                at = began_at + seconds
                if at > loop.time():
                    await asyncio.sleep(at - loop.time())
                tasks.create_task(self._one(told, at, priority()))
        told.sort(key=lambda each: each.at)
        return told

    async def _one(self, told: list[Told], at: float, priority: str) -> None:
        retry_after: float | None = None
        try:
            record = (await self.runner.run(Request("chat", {"messages": []}), priority=priority)).record
        except RunFailed as failed:
            record, retry_after = failed.record, failed.retry_after_seconds
        told.append(_told(record, at, retry_after, priority))

    def figures(self, told: Sequence[Told]) -> str:
        """What was measured, for a message."""
        waits = [each.seconds for each in told]
        lines = [
            f"{len(told)} runs: {dict(Counter(each.ending for each in told))}",
            f"{calls_a_run(told):.4f} calls a run, {sum(each.retries for each in told)} retries",
            f"callers waited {percentile(waits, 50):.2f} s (half), {percentile(waits, 99):.2f} s (99 %), {max(waits):.2f} s",
        ]
        lines += [
            f"{name}: {len(each.called_at)} calls, {len(each.answered_at)} answered, {each.busiest} at once,"
            f" {len(each.probed_at)} probes, {each.most_probes} at once"
            for name, each in self.providers.items()
        ]
        return "; ".join(lines)


def _told(record: RunRecord, at: float, retry_after: float | None, priority: str) -> Told:
    tries = tuple(tried.candidate for tried in record.tries if tried.n)
    hedges = sum(1 for tried in record.tries if tried.hedge)
    seconds = asyncio.get_running_loop().time() - at
    return Told(at, seconds, record.ending or "", tries, hedges, record.queued_seconds, retry_after, priority)


def calls_a_run(told: Sequence[Told]) -> float:
    """Calls that were sent upstream for each run: 1 is no amplification."""
    return sum(len(each.tries) for each in told) / len(told)


def answered_share(told: Sequence[Told]) -> float:
    """The share of the runs that was answered."""
    return sum(each.answered for each in told) / len(told)


def percentile(values: Iterable[float], share: float) -> float:
    """What so many per cent of the values are no larger than."""
    known = sorted(values)
    return known[ceil(len(known) * share / 100) - 1]
