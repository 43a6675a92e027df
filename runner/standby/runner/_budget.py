"""What keeps retries from becoming a storm: a retry budget for each failure domain. Pure; it needs no clock.

Why a budget and not only `maxAttempts`? Two tries a run are twice the load on a provider that is down for everybody.
A budget lets a few retries through, which is what a hiccup needs, and then only as many as answers pay for:

- Each domain has a capacity of tokens. A retry of work that was rejected costs 5, one of work whose fate is unknown 14:
  that one may be done, and paid for, twice. A success earns 1, and a retry that succeeds gets back what it cost.
- No token comes with time. A budget that refills by the second is as good as none for calls that last a minute.
- However many tokens there are, retries and hedges under way are at most a share of the runs under way; three always
  may be.
- A first try is never refused, nor a failover to somebody who shares no domain with what failed: that is no retry, and
  what bounds it is that each candidate has one turn.

The idea is that of the AWS SDKs' retry quota and of gRPC's retry throttling: pay for retries out of successes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from standby.clients import Work

from ._decisions import BUDGET, Match, RetryDecision

if TYPE_CHECKING:
    from standby.store import RetryBudget

RETRY_COSTS: Final[dict[Work, int]] = {"not_sent": 5, "rejected": 5, "unknown": 14, "billed": 14}
EARNED_BY_SUCCESS: Final = 1
ALWAYS_IN_FLIGHT: Final = 3


@dataclass(slots=True)
class Extra:
    """An extra try that was paid for: a retry, or a hedge.

    Attributes:
        domain: Who paid.
        cost: How many tokens.
    """

    domain: str
    cost: int
    ended: bool = False


class Budgets:
    """The budgets of all failure domains of one runner.

    Attributes:
        runs: How many runs are under way.
        extras: How many extra tries are, or wait for their turn.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.extras = 0
        self._spent: dict[str, int] = {}

    @property
    def owing(self) -> bool:
        """Whether any domain has spent tokens that it has not earned back."""
        return bool(self._spent)

    def spent(self, domain: str) -> int:
        """How many tokens ``domain`` has spent and not earned back."""
        return self._spent.get(domain, 0)

    def take(self, domain: str, work: Work, policy: RetryBudget) -> Extra | RetryDecision:
        """Pay for an extra try of ``domain``, or the decision that refuses it; nothing is paid then."""
        if not policy.enabled:
            return Extra(domain, 0, ended=True)  # it counts for nobody
        if self.extras >= max(ALWAYS_IN_FLIGHT, self.runs * policy.max_in_flight_percent // 100):
            return refused("retry_budget_in_flight", "maxInFlightPercent", policy.max_in_flight_percent)
        cost, spent = RETRY_COSTS[work], self.spent(domain)
        if spent + cost > policy.capacity:
            return refused("retry_budget_exhausted", "capacity", policy.capacity)
        self._spent[domain] = spent + cost
        self.extras += 1
        return Extra(domain, cost)

    def end(self, extra: Extra, *, refund: bool) -> None:
        """An extra try is over, or was never made; it gets back what it cost if it succeeded, or was not made."""
        if extra.ended:
            return
        extra.ended = True
        self.extras -= 1
        if refund:
            self._earn(extra.domain, extra.cost)

    def succeeded(self, domains: tuple[str, ...]) -> None:
        """A try of a candidate in these domains succeeded."""
        for domain in domains:
            self._earn(domain, EARNED_BY_SUCCESS)

    def _earn(self, domain: str, tokens: int) -> None:
        left = self._spent.get(domain, 0) - tokens
        if left > 0:
            self._spent[domain] = left
        else:
            self._spent.pop(domain, None)


def refused(reason: str, rule: str, value: int) -> RetryDecision:
    """The decision that an extra try is not paid for."""
    return RetryDecision(False, reason, Match(BUDGET, "retryBudget", rule, str(value)))
