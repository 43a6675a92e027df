"""A model's candidates with their policies compiled: what one run is pinned to.

A route is made once for each version of the catalog, and shared by all runs that start while that version is newest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, wait_exponential

from standby import store
from standby.clients import ProviderClient
from standby.store import DEFAULT_SCOPES, Snapshot

from ._limits import Capacity, Limits
from ._rules import DEFAULT_COOLDOWN_SECONDS, Rules, compile_rules, is_active

if TYPE_CHECKING:
    from standby.store import (
        Backoff,
        Candidate,
        Commit,
        FailoverPolicy,
        Hedge,
        Model,
        Provider,
        Queue,
        RetryBudget,
        RunnerPolicy,
        RuntimePolicy,
    )


@dataclass(frozen=True, slots=True)
class Domains:
    """The failure domains that one candidate is in, each a key of the run-time state."""

    candidate: str
    credential: str
    credential_model: str
    provider: str

    def of(self, scope: str) -> str:
        """The domain that a failure of this scope concerns; the candidate for any other word."""
        match scope:
            case "credential":
                return self.credential
            case "credential_model":
                return self.credential_model
            case "provider":
                return self.provider
            case _:
                return self.candidate

    def within(self, scope: str) -> tuple[str, ...]:
        """The domains that a failure of this scope says something of: its own, and what lies within."""
        narrowest_first = ("candidate", "credential_model", "credential", "provider")
        upto = narrowest_first.index(scope) if scope in narrowest_first else 0
        return tuple(self.of(each) for each in narrowest_first[: upto + 1])

    def all(self) -> tuple[str, str, str, str]:
        """All four; whatever is held against one of them is held against the candidate."""
        return self.candidate, self.credential, self.credential_model, self.provider


@dataclass(frozen=True, slots=True)
class CooldownPolicy:
    """How long a candidate is left out, and what is left out with it."""

    multiplier: float
    max_seconds: float
    eject_after: int
    eject_seconds: float
    recheck_seconds: float
    scopes: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class RouteCandidate:
    """One candidate, ready to be called; where its provider has several keys, with one of them.

    Attributes:
        id: Its name within the model.
        key: Its name in the whole gateway: ``model/id``.
        key_id: Which of its provider's keys it is called with; empty where there is only one.
        model: The provider's name of the model.
        priority_span: How far apart the priorities of the model's candidates are, as configured.
        client: Who calls it.
        drop: What may be left out of a request that it cannot do.
        rules: Its compiled policies.
        max_attempts: Tries of it in one run, the first included.
        capacities: Its local limits, its own and those of its provider's key; empty where it has none.
        capacity_of_key: The latter.
        counts_tokens: Whether one of them needs an estimate of tokens.
        retry_budget: What bounds its retries.
        attempt_seconds: The clock of one try.
        first_token_seconds: The clock of a stream until its first content.
        idle_seconds: The clock between two reads of a stream, from then on.
        min_useful_seconds: No try is started with less time left.
    """

    id: str
    key: str
    key_id: str
    model: str
    provider: str
    client: ProviderClient
    drop: frozenset[str]
    priority: int
    priority_span: int
    weight: float
    domains: Domains
    rules: Rules
    max_attempts: int
    backoff: Backoff
    cooldown: CooldownPolicy
    restore_seconds: float
    capacities: tuple[Capacity, ...]
    capacity_of_key: Capacity | None
    counts_tokens: bool
    retry_budget: RetryBudget
    attempt_seconds: float
    first_token_seconds: float
    idle_seconds: float
    min_useful_seconds: float

    @property
    def ticket(self) -> str:
        """Its name in the whole gateway, its key's included."""
        return f"{self.key}#{self.key_id}" if self.key_id else self.key

    def backoff_seconds(self, tries: int, chance: float) -> float:
        """How long to wait after the ``tries``-th try of this candidate failed; ``chance`` is in [0, 1)."""
        backoff = self.backoff
        bound = wait_exponential(
            multiplier=backoff.initial_seconds, max=backoff.max_seconds, exp_base=backoff.multiplier
        )(_call_state(tries))
        return bound * chance if backoff.jitter == "full" else bound


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One model at one version of the catalog."""

    model: str
    version: int
    candidates: tuple[RouteCandidate, ...]
    total_seconds: float
    queue: Queue
    commit: Commit
    hedge: Hedge | None


@dataclass(frozen=True, slots=True)
class Credential:
    """One of a provider's keys, or the only one.

    Attributes:
        name: Its name in the whole gateway: the provider's, or ``provider/id``.
        id: Its name within the provider; empty where there is only one.
        share: Its share of the candidate's weight.
        provider: The provider's settings, with this key alone.
    """

    name: str
    id: str
    share: float
    provider: Provider


def credentials_of(name: str, provider: Provider) -> Iterator[Credential]:
    """The keys of the provider ``name``."""
    if not provider.api_keys:
        yield Credential(name, "", 1.0, provider)
    whole = sum(key.weight for key in provider.api_keys)
    for key in provider.api_keys:
        alone = provider.model_copy(update={"api_key": key.key, "api_keys": []})
        yield Credential(f"{name}/{key.id}", key.id, key.weight / whole, alone)


def compile_route(snapshot: Snapshot, name: str, clients: Mapping[str, ProviderClient], limits: Limits) -> Route:
    """Compile the model ``name``; candidates without policies of their own share one compiled set of rules."""
    model = snapshot.models[name]
    shared: dict[str | None, Rules] = {}
    return Route(
        model=name,
        version=snapshot.version,
        candidates=tuple(
            _candidate(snapshot, name, model, candidate, credential, clients[credential.name], limits, shared)
            for candidate in model.candidates
            for credential in credentials_of(candidate.provider, snapshot.providers[candidate.provider])
        ),
        total_seconds=model.timeouts.total_seconds,
        queue=model.queue,
        commit=model.commit,
        hedge=model.hedge,
    )


def _candidate(
    snapshot: Snapshot,
    model_name: str,
    model: Model,
    candidate: Candidate,
    credential: Credential,
    client: ProviderClient,
    limits: Limits,
    shared: dict[str | None, Rules],
) -> RouteCandidate:
    policies = store.effective_policies(snapshot, model, candidate)
    gateway, runtime, override = policies.runner_policy, policies.runtime_policy, policies.failover_override
    key, priorities = f"{model_name}/{candidate.id}", [each.priority for each in model.candidates]
    of_key = limits.capacity(f"credential:{credential.name}", snapshot.providers[candidate.provider].rate_limit)
    own = limits.capacity(key, runtime.rate_limit_policy)
    capacities = tuple(capacity for capacity in (own, of_key) if capacity is not None)
    return RouteCandidate(
        id=candidate.id,
        key=key,
        key_id=credential.id,
        model=candidate.model,
        provider=candidate.provider,
        client=client,
        drop=frozenset((*snapshot.providers[candidate.provider].drop, *candidate.drop)),
        priority=candidate.priority,
        priority_span=max(priorities) - min(priorities),
        weight=candidate.weight * credential.share,
        domains=Domains(
            candidate=f"candidate:{key}",
            credential=f"credential:{credential.name}",
            credential_model=f"credential_model:{credential.name}/{candidate.model}",
            provider=f"provider:{candidate.provider}",
        ),
        rules=_rules(gateway, runtime, override, candidate, shared),
        max_attempts=runtime.retry_policy.max_attempts,
        backoff=runtime.retry_policy.backoff,
        cooldown=_cooldown(gateway, override),
        restore_seconds=gateway.priority_demote_policy.restore_seconds,
        capacities=capacities,
        capacity_of_key=of_key,
        counts_tokens=any(capacity.counts_tokens for capacity in capacities),
        retry_budget=gateway.retry_budget,
        attempt_seconds=runtime.timeouts.attempt_seconds,
        first_token_seconds=runtime.timeouts.first_token_seconds,
        idle_seconds=runtime.timeouts.idle_seconds,
        min_useful_seconds=runtime.timeouts.min_useful_seconds,
    )


def _rules(
    gateway: RunnerPolicy,
    runtime: RuntimePolicy,
    override: FailoverPolicy | None,
    candidate: Candidate,
    shared: dict[str | None, Rules],
) -> Rules:
    if candidate.runtime_policy_override.model_fields_set:
        return compile_rules(gateway, runtime, override)
    if candidate.runtime_policy not in shared:
        shared[candidate.runtime_policy] = compile_rules(gateway, runtime)
    return shared[candidate.runtime_policy]


def _cooldown(gateway: RunnerPolicy, override: FailoverPolicy | None) -> CooldownPolicy:
    policy = store.overlaid(gateway.failover_policy, override)
    written = {category.strip().lower(): scope for category, scope in gateway.scopes.items()}
    return CooldownPolicy(
        multiplier=policy.cooldown_multiplier,
        max_seconds=policy.max_cooldown_seconds,
        # Ejection is a part of the failover policy, and off with it.
        eject_after=policy.eject_after if is_active(gateway.status) else 0,
        eject_seconds=policy.cooldown_seconds or DEFAULT_COOLDOWN_SECONDS,
        recheck_seconds=policy.recheck_seconds,
        scopes={**DEFAULT_SCOPES, **written},
    )


def _call_state(tries: int) -> RetryCallState:
    state = RetryCallState(retry_object=_NO_RETRYING, fn=None, args=(), kwargs={})
    state.attempt_number = tries
    return state


_NO_RETRYING = Retrying()
