"""What is held against each candidate now, and why: the operator's view, as values and in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from math import inf
from typing import Any, Final

from standby.store import Standing

from ._budget import Budgets
from ._health import Availability, StandingOf, availability, probe_held_until
from ._limits import Capacity
from ._queue import Queue
from ._route import Domains, Route, RouteCandidate

_CLEAN = Standing()
_LAST_MOMENT = 253_402_300_799.0


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """How much of one local limit is used.

    Attributes:
        of: Whose limit: ``candidate``, or ``key`` for all that use the same provider's key.
        credential: Which key that is: the provider's name, or ``provider/id`` where it has several; else empty.
        in_flight: Calls under way, of at most ``concurrency``.
        requests: Calls of the last minute, of at most ``requests_per_minute``.
        tokens: Tokens of the last minute, of at most ``tokens_per_minute``.
        shared: Whether others use it too, and what is used is only what this process does.
    """

    of: str
    credential: str
    in_flight: int
    concurrency: int | None
    requests: int
    requests_per_minute: int | None
    tokens: int
    tokens_per_minute: int | None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One candidate with one of the several keys of its provider; each field as `CandidateStatus` has it."""

    id: str
    status: str
    until: float
    cause: str
    domains: Domains


@dataclass(frozen=True, slots=True)
class CandidateStatus:
    """One candidate as it stands now.

    Attributes:
        id: Its name within the model.
        key: Its name in the whole gateway: ``model/id``.
        status: ``usable``, ``half_open`` (the next run probes it), ``probing`` (a run does), ``cooling`` or
            ``disabled``.
        until: When ``cooling`` or ``probing`` ends, or a disablement is rechecked, in seconds since the epoch; 0 where
            it does not apply.
        cause: Why, in words.
        effective_priority: The priority with the demotion.
        demoted_for: What it was demoted for, in words.
        restored_at: When the demotion is next smaller, in seconds since the epoch; `None` where it does not wear off.
        cooldowns_in_row: How many count for the length of the next one.
        retry_budget: The tokens that each of its domains has left for retries, by domain; those that have all of them
            are left out.
        limits: Its local limits.
        waiting: How many runs of its model wait for local capacity.
        keys: How it stands with each of its provider's keys, where there are several; the rest is then of the key with
            which it stands best.
        told: All of this in sentences.
    """

    id: str
    key: str
    model: str
    provider: str
    provider_model: str
    status: str
    until: float
    cause: str
    priority: int
    effective_priority: int
    weight: float
    demoted_for: str
    restored_at: float | None
    failures_in_row: int
    cooldowns_in_row: int
    retry_budget: dict[str, int]
    limits: tuple[LimitStatus, ...]
    waiting: int
    domains: Domains
    keys: tuple[KeyStatus, ...]
    told: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The status as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known in this process, beside the catalog.

    Attributes:
        standing_of: What is held against a failure domain.
        budgets: The retry budgets.
        queue: Who waits for local capacity.
        steady: What time it is by the steady clock, which local capacity counts by.
    """

    standing_of: StandingOf
    budgets: Budgets
    queue: Queue
    steady: float


_BEST_FIRST: Final = ("usable", "half_open", "probing", "cooling", "disabled")


def statuses_of(route: Route, known: Known, now: float) -> Iterator[CandidateStatus]:
    """How each candidate of ``route`` stands at ``now``, in its order."""
    # The keys of one candidate come one after the other.
    for _, with_each_key in groupby(route.candidates, lambda candidate: candidate.key):
        yield _status_of(tuple(with_each_key), route, known, now)


def _status_of(with_each_key: Sequence[RouteCandidate], route: Route, known: Known, now: float) -> CandidateStatus:
    found = [_verdict(candidate, known.standing_of, now) for candidate in with_each_key]
    best = min(range(len(found)), key=lambda index: _BEST_FIRST.index(found[index][0]))
    candidate, (status, until, availability_found) = with_each_key[best], found[best]
    own = known.standing_of(candidate.domains.candidate) or _CLEAN
    demotion, restored_at = own.demotion(now), own.demotion_changes_at(now)
    capacity = candidate.retry_budget.capacity
    domains = dict.fromkeys(domain for each in with_each_key for domain in each.domains.all())
    spent = {domain: known.budgets.spent(domain) for domain in domains}
    limits = tuple(_limits_of(with_each_key, known.steady))
    waiting = known.queue.length(route.model)
    keys = tuple(
        KeyStatus(each.key_id, *verdict[:2], verdict[2].cause, each.domains)
        for each, verdict in zip(with_each_key, found, strict=True)
        if each.key_id
    )
    return CandidateStatus(
        id=candidate.id,
        key=candidate.key,
        model=route.model,
        provider=candidate.provider,
        provider_model=candidate.model,
        status=status,
        until=until,
        cause=availability_found.cause,
        priority=candidate.priority,
        effective_priority=candidate.priority + demotion,
        weight=sum(each.weight for each in with_each_key),
        demoted_for=own.demoted_for if demotion else "",
        restored_at=restored_at if restored_at < inf else None,
        failures_in_row=own.failures_in_row,
        cooldowns_in_row=own.in_row(now),
        retry_budget={domain: max(0, capacity - tokens) for domain, tokens in spent.items() if tokens},
        limits=limits,
        waiting=waiting,
        domains=candidate.domains,
        keys=keys,
        told=(
            *(
                f"With the key {each.key_id}: {sentence}" if each.key_id else sentence
                for each, verdict in zip(with_each_key, found, strict=True)
                for sentence in _availability_in_words(each, *verdict, known.standing_of, now)
            ),
            *_demotion_in_words(own, candidate.priority + demotion, now),
            *_failures_in_words(candidate, own),
            *(
                f"Retries of {domain} have {max(0, capacity - tokens)} of {capacity} tokens left."
                for domain, tokens in spent.items()
                if tokens
            ),
            *(_limit_in_words(limit) for limit in limits),
            *_waiting_in_words(route, waiting),
        ),
    )


def _verdict(candidate: RouteCandidate, standing_of: StandingOf, now: float) -> tuple[str, float, Availability]:
    """The status, when it ends, and what it was made of."""
    found = availability(candidate, standing_of, now)
    if found.verdict != "probe":
        return found.verdict, found.until, found
    until = probe_held_until(found.domains, standing_of)
    return ("probing", until, found) if until > now else ("half_open", 0.0, found)


def _limits_of(with_each_key: Sequence[RouteCandidate], steady: float) -> Iterator[LimitStatus]:
    told: set[Capacity] = set()
    for candidate in with_each_key:
        for capacity in candidate.capacities:
            if capacity not in told:
                told.add(capacity)
                yield _limit(candidate, capacity, steady)


def _limit(candidate: RouteCandidate, capacity: Capacity, steady: float) -> LimitStatus:
    policy = capacity.policy
    requests, tokens = capacity.used(steady)
    of_key = capacity is candidate.capacity_of_key
    return LimitStatus(
        of="key" if of_key else "candidate",
        credential=candidate.domains.credential.partition(":")[2] if of_key else "",
        in_flight=capacity.in_use,
        concurrency=policy.concurrency,
        requests=requests,
        requests_per_minute=policy.requests_per_minute,
        tokens=tokens,
        tokens_per_minute=policy.tokens_per_minute,
        shared=capacity.shared,
    )


# -- in words ----------------------------------------------------------------------------------------------------


def moment(at: float) -> str:
    """A time for people: in UTC, to the second."""
    return datetime.fromtimestamp(min(at, _LAST_MOMENT), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _availability_in_words(
    candidate: RouteCandidate, status: str, until: float, found: Availability, standing_of: StandingOf, now: float
) -> Iterator[str]:
    match status:
        case "disabled":
            again = f"A run checks it again from {moment(until)} on" if until else "Somebody must enable it"
            yield f"Left out: {found.cause}. {again}."
        case "cooling":
            domain, standing = _longest(candidate.domains.all(), standing_of)
            yield (
                f"Left out for {until - now:.0f} s more, until {moment(until)}, as all of {domain}: {found.cause}. "
                f"Cooldowns in a row: {standing.in_row(now)}. When it ends one run probes it."
            )
        case "probing":
            yield f"A run probes it, until {moment(until)} at the latest; the others keep to the next candidate."
        case "half_open":
            yield f"The next run probes it: it was left out by what is held against {', '.join(found.domains)}."
        case _:
            yield "It may be called."
            for domain in candidate.domains.all():
                standing = standing_of(domain) or _CLEAN
                if in_row := standing.in_row(now):
                    yield (
                        f"{domain} is well since {moment(standing.recovered_at)}; its next cooldown would be "
                        f"number {in_row + 1} in a row."
                    )


def _longest(domains: Sequence[str], standing_of: StandingOf) -> tuple[str, Standing]:
    standings = [(domain, standing_of(domain) or _CLEAN) for domain in domains]
    return max(standings, key=lambda pair: pair[1].cooling_until)


def _demotion_in_words(standing: Standing, priority: int, now: float) -> Iterator[str]:
    if demotion := standing.demotion(now):
        changes_at = standing.demotion_changes_at(now)
        lasting = f"it wears off from {moment(changes_at)} on" if changes_at < inf else "until somebody restores it"
        yield f"Ranked {demotion} lower, at {priority}: {standing.demoted_for}; {lasting}."


def _failures_in_words(candidate: RouteCandidate, standing: Standing) -> Iterator[str]:
    if failures := standing.failures_in_row:
        eject_after = candidate.cooldown.eject_after
        consequence = f"; {eject_after} leave it out" if eject_after else ""
        yield f"Failures in a row: {failures}{consequence}."


def _limit_in_words(limit: LimitStatus) -> str:
    parts = [
        f"{used} of {most} {what}"
        for used, most, what in (
            (limit.in_flight, limit.concurrency, "calls under way"),
            (limit.requests, limit.requests_per_minute, "requests in the last minute"),
            (limit.tokens, limit.tokens_per_minute, "tokens in the last minute"),
        )
        if most is not None
    ]
    whose = "Its own limits"
    if limit.of == "key":
        whose = f"The limits of its key {limit.credential.partition('/')[2]}".rstrip()
    return f"{whose}: {', '.join(parts)}{', in this process of all that share them' if limit.shared else ''}."


def _waiting_in_words(route: Route, waiting: int) -> Iterator[str]:
    if waiting:
        yield f"Runs of {route.model} that wait for local capacity: {waiting} of at most {route.queue.max_waiting}."
