"""What is held against each candidate now, and why: the operator's view, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from standby.store import Standing

from ._health import StandingOf, availability, probe_held_until
from ._route import Domains, Route, RouteCandidate

_CLEAN = Standing()


@dataclass(frozen=True, slots=True)
class CandidateStatus:
    """One candidate as it stands now.

    Attributes:
        id: Its name within the model.
        key: Its name in the whole gateway: ``model/id``.
        status: ``usable``, ``half_open`` (the next run probes it), ``probing`` (a run does), ``cooling`` or
            ``disabled``.
        until: When ``cooling`` or ``probing`` ends, in seconds since the epoch; 0 where it does not apply.
        cause: Why, in words.
        effective_priority: The priority with the demotion.
        demoted_for: What it was demoted for, in words.
        restored_at: When the demotion is next smaller, in seconds since the epoch; `None` where it does not wear off.
        in_flight: Leases of its local capacity that are out; `None` where nothing limits it.
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
    in_flight: int | None
    domains: Domains

    def as_dict(self) -> dict[str, Any]:
        """The status as a JSON object."""
        return asdict(self)


def status_of(candidate: RouteCandidate, route: Route, standing_of: StandingOf, now: float) -> CandidateStatus:
    """How ``candidate`` stands at ``now``."""
    found = availability(candidate, standing_of, now)
    own = standing_of(candidate.domains.candidate) or _CLEAN
    status: str = found.verdict
    until, cause = found.until, found.cause
    if found.verdict == "probe":
        until = probe_held_until(found.domains, standing_of)
        status, until = ("probing", until) if until > now else ("half_open", 0.0)
    demotion = own.demotion(now)
    restored_at = own.demotion_changes_at(now)
    return CandidateStatus(
        id=candidate.id,
        key=candidate.key,
        model=route.model,
        provider=candidate.provider,
        provider_model=candidate.model,
        status=status,
        until=until,
        cause=cause,
        priority=candidate.priority,
        effective_priority=candidate.priority + demotion,
        weight=candidate.weight,
        demoted_for=own.demoted_for if demotion else "",
        restored_at=restored_at if restored_at < float("inf") else None,
        failures_in_row=own.failures_in_row,
        cooldowns_in_row=own.cooldowns_in_row,
        in_flight=candidate.capacity.in_use if candidate.capacity else None,
        domains=candidate.domains,
    )
