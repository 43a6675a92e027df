"""What a failure does to a candidate's health, and what its health allows. Pure.

A candidate is usable, cooling, half open or disabled, by the worst of what is held against its four failure domains.

- Cooling ends by itself. What is known of it then is old: the candidate is half open, and one run probes it under a
  lease that expires, while the others keep to the next candidate.
- A probe that succeeds ends the matter; one that fails cools the candidate again, for longer. One that is cancelled
  gives the lease back and changes nothing.
- Cooldowns grow to spare runs a probe in vain while somebody else answers them. Where nobody else is well there is
  nobody to spare: what no action asked for then lasts no longer than the first time, so that a recovery is seen soon.
- What a policy disabled comes back in the same way, where `recheckSeconds` says so; what an operator did, never.
- A call that was under way when its candidate was cooled, and fails after it has recovered, is old news.
- Local failures and those of the caller never touch a provider's health.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from standby.clients import Blame
from standby.store import Cool, Demote, Disable, Effect, Failed, Standing, Succeeded

from ._decisions import Decisions, FailoverDecision, Match
from ._route import RouteCandidate

StandingOf = Callable[[str], Standing | None]

NOT_ITS_FAULT: Final[frozenset[Blame]] = frozenset({"local", "caller"})
NO_SIGN_OF_ILLNESS: Final[frozenset[Blame]] = frozenset({"local", "caller", "request"})

MIN_COOLDOWN_SECONDS: Final = 1.0
JITTER: Final = 0.1

MOST_STEPS: Final = 5
"""A candidate is demoted by what puts the first of its model behind the last, and so many steps, at most.

More changes nothing in the order, and takes long to wear off. It is the same for all of a model: those who are that low
keep their order.
"""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a candidate may be called now.

    Attributes:
        verdict: ``usable``, ``probe`` (usable by the one run that gets the lease), ``probing`` (another run has it),
            ``cooling`` or ``disabled``.
        until: When ``cooling`` or ``probing`` ends, or a disablement is rechecked, in seconds since the epoch; else 0.
        cause: Why, in words.
        domains: The half-open domains that a probe must lease.
    """

    verdict: Literal["usable", "probe", "probing", "cooling", "disabled"]
    until: float = 0.0
    cause: str = ""
    domains: tuple[str, ...] = ()


USABLE: Final = Availability("usable")


def availability(candidate: RouteCandidate, standing_of: StandingOf, now: float) -> Availability:
    """Whether ``candidate`` may be called at ``now``."""
    until, cause = 0.0, ""
    half_open: list[str] = []
    for domain in candidate.domains.all():
        standing = standing_of(domain)
        if standing is None:
            continue
        if standing.disabled and not standing.half_open(now):
            why = f": {standing.disabled_why}" if standing.disabled_why else ""
            cause = f"disabled by {standing.disabled_by}{why}"
            return Availability("disabled", standing.recheck_at, cause)
        if standing.cooling(now):
            if standing.cooling_until > until:
                until, cause = standing.cooling_until, standing.cooled_for
        elif standing.half_open(now):
            half_open.append(domain)
    if until:
        return Availability("cooling", until, cause)
    return Availability("probe", domains=tuple(half_open)) if half_open else USABLE


def probe_held_until(domains: Sequence[str], standing_of: StandingOf) -> float:
    """When the lease of the probe of these half-open domains ends; 0 where nobody holds it."""
    return max((standing.probe_until for domain in domains if (standing := standing_of(domain))), default=0.0)


def _may_be_called(candidate: RouteCandidate, standing_of: StandingOf, now: float) -> bool:
    found = availability(candidate, standing_of, now)
    if found.verdict == "probe":
        return probe_held_until(found.domains, standing_of) <= now
    return found.verdict == "usable"


def _is_well(candidate: RouteCandidate, standing_of: StandingOf, now: float) -> bool:
    """Whether nothing is held against it, and it did not fail when it was last called."""
    standing = standing_of(candidate.domains.candidate)
    failing = standing is not None and standing.failures_in_row > 0
    return not failing and availability(candidate, standing_of, now).verdict == "usable"


def effective_priority(candidate: RouteCandidate, standing_of: StandingOf, now: float) -> int:
    """The candidate's priority with its demotion; smaller is tried first."""
    standing = standing_of(candidate.domains.candidate)
    return candidate.priority if standing is None else candidate.priority + standing.demotion(now)


@dataclass(frozen=True, slots=True)
class FailedTry:
    """What `effects_of_failure` must know of a failed try.

    Attributes:
        began_at: When the try began, in seconds since the epoch.
        given_up: Whether the run leaves the candidate, and does not try it again.
        probe: The half-open domains that the try was the probe of.
        others: The other candidates of the route.
        chance: A number in [0, 1) for the jitter.
    """

    category: str
    blame: Blame
    hint: float | None
    began_at: float
    given_up: bool
    probe: tuple[str, ...]
    others: Sequence[RouteCandidate]
    chance: float


def effects_of_failure(
    candidate: RouteCandidate, decisions: Decisions, failed: FailedTry, standing_of: StandingOf, now: float
) -> tuple[Effect, ...]:
    """What a failed try does to the candidate and to what shares its failure domain."""
    if failed.blame in NOT_ITS_FAULT:
        return ()
    effects: list[Effect] = []
    own = candidate.domains.candidate
    scope = candidate.cooldown.scopes.get(failed.category, "candidate")
    if any(_old_news(failed, standing_of(domain)) for domain in (own, candidate.domains.of(scope))):
        return ()
    action = _action(candidate, decisions.failover, failed, standing_of, now)
    if failed.blame not in NO_SIGN_OF_ILLNESS:
        effects.append(Failed(own, now))
        # What the action does anyhow need not be done, and told, twice.
        effects += [
            each
            for each in _soft_cooldowns(candidate, failed, standing_of, now)
            if action is None or (type(each), each.domain) != (type(action), action.domain)
        ]
    if action is not None:
        effects.append(action)
    demote = decisions.demote
    if demote is not None and demote.demote and failed.given_up:
        cause = _cause(failed.category, demote.reason, demote.match)
        at_most = candidate.priority_span + MOST_STEPS * demote.step
        if (standing := standing_of(own)) is not None and standing.demotion(now) >= at_most:
            cause += "; as low as it goes"
        effects.append(Demote(own, now, failed.began_at, demote.step, candidate.restore_seconds, cause, at_most))
    return tuple(effects)


def _action(
    candidate: RouteCandidate, failover: FailoverDecision, failed: FailedTry, standing_of: StandingOf, now: float
) -> Effect | None:
    """What the failover decision does to the candidate that is given up; a 429 becomes a cooldown here."""
    if not failed.given_up:
        return None
    own = candidate.domains.candidate
    scope = candidate.cooldown.scopes.get(failed.category, "candidate")
    cause = _cause(failed.category, failover.reason, failover.match)
    # What the provider holds against the request, a 403 for its content say, is no reason to leave out a credential.
    if failover.action == "cooldown_and_next" and (failed.blame != "request" or scope == "candidate"):
        domain = candidate.domains.of(scope)
        return _cool(candidate, domain, failover.cooldown_seconds, cause, failed, standing_of, now)
    if failover.action == "disable_and_next" and not _of_before(failed, standing_of(own)):
        return Disable(own, now, "policy", cause, _recheck_at(candidate, now))
    return None


def effects_of_success(
    candidate: RouteCandidate, began_at: float, standing_of: StandingOf, now: float
) -> tuple[Effect, ...]:
    """What a success does: nothing, but where something was held against the candidate's domains."""
    return tuple(
        Succeeded(domain, now, began_at)
        for domain in candidate.domains.all()
        if (standing := standing_of(domain)) is not None and standing.heeds_success(now)
    )


def leaves_out(candidate: RouteCandidate, effects: Sequence[Effect]) -> bool:
    """Whether any of these effects leaves ``candidate`` out."""
    domains = candidate.domains.all()
    return any(isinstance(effect, Cool | Disable) and effect.domain in domains for effect in effects)


def _of_before(failed: FailedTry, standing: Standing | None) -> bool:
    """Disabled already, and the try began before its recheck was due: it is of the same incident."""
    return standing is not None and standing.disabled and failed.began_at < standing.recheck_at


def _old_news(failed: FailedTry, standing: Standing | None) -> bool:
    return standing is not None and standing.recovered_at > 0 and failed.began_at < standing.cooled_at


def _soft_cooldowns(candidate: RouteCandidate, failed: FailedTry, standing_of: StandingOf, now: float) -> list[Effect]:
    """Cooldowns that no action asked for: of a failed probe, and of a candidate that fails again and again."""
    if candidate.rules.not_active is not None:
        return []
    base_seconds = candidate.cooldown.eject_seconds
    own = candidate.domains.candidate
    scope = candidate.cooldown.scopes.get(failed.category, "candidate")
    concerned = candidate.domains.within(scope)
    # A probe proves nothing against what its failure does not concern: a 404 for the model says that the key is well.
    cools: list[Effect] = [
        _left_out_again(candidate, domain, base_seconds, failed, standing_of, now)
        for domain in failed.probe
        if domain in concerned and not _old_news(failed, standing_of(domain))
    ]
    if own not in failed.probe and candidate.cooldown.eject_after:
        standing = standing_of(own)
        in_row = 1 + (standing.failures_in_row if standing is not None else 0)
        stale = standing is not None and standing.half_open(now) and failed.began_at < standing.cooled_at
        due = in_row >= candidate.cooldown.eject_after and not stale
        # With another key it is the same candidate.
        others = (other for other in failed.others if other.domains.candidate != own)
        if due and any(_may_be_called(other, standing_of, now) for other in others):
            cause = f"{failed.category}: {in_row} failures in a row (ejectAfter {candidate.cooldown.eject_after})"
            cools.append(_cool(candidate, own, base_seconds, cause, failed, standing_of, now, soft=True))
    return cools


def _left_out_again(
    candidate: RouteCandidate,
    domain: str,
    base_seconds: float,
    failed: FailedTry,
    standing_of: StandingOf,
    now: float,
) -> Effect:
    """What a failed probe comes to."""
    standing, cause = standing_of(domain), f"{failed.category}: the probe failed"
    if standing is not None and standing.disabled:
        return Disable(domain, now, "policy", cause, _recheck_at(candidate, now))
    return _cool(candidate, domain, base_seconds, cause, failed, standing_of, now, soft=True)


def _recheck_at(candidate: RouteCandidate, now: float) -> float:
    seconds = candidate.cooldown.recheck_seconds
    return now + seconds if seconds else 0.0


def _cool(
    candidate: RouteCandidate,
    domain: str,
    base_seconds: float,
    cause: str,
    failed: FailedTry,
    standing_of: StandingOf,
    now: float,
    *,
    soft: bool = False,
) -> Cool:
    """A cooldown, longer for each in a row; a soft one, which no action asked for, only while somebody else is well."""
    standing = standing_of(domain)
    grows = not soft or any(_is_well(other, standing_of, now) for other in failed.others)
    in_row = 1
    if standing is not None:
        # Calls that were under way when the domain was cooled fail of the same incident: they do not count again.
        new_incident = failed.began_at >= standing.cooled_at
        in_row = standing.in_row(now) + 1 if new_incident and grows else max(1, standing.in_row(now))
    longest = max(candidate.cooldown.max_seconds, base_seconds)
    if failed.hint is not None:
        longest = candidate.cooldown.max_seconds
        base_seconds = max(MIN_COOLDOWN_SECONDS, failed.hint)
    growth = _growth(candidate.cooldown.multiplier, in_row) if grows else 1.0
    seconds = min(longest, base_seconds * growth)
    return Cool(domain, now, now + seconds * (1 + JITTER * failed.chance), in_row, cause)


def _growth(multiplier: float, in_row: int) -> float:
    try:
        return multiplier ** (in_row - 1)
    except OverflowError:
        return float("inf")


def _cause(category: str, reason: str, match: Match | None) -> str:
    return f"{category}: {reason}" + (f" ({match})" if match else "")
