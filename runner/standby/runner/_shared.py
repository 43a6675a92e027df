"""What the runs of one runner have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ._budget import Budgets
from ._health import StandingOf


@dataclass(frozen=True, slots=True)
class Shared:
    """What the runs of one runner have in common, and a plan asks of it.

    Attributes:
        standing_of: What is held against a failure domain.
        budgets: The retry budgets.
        slow_after: After how many seconds one is slower than that percentile of the last times that are remembered by
            this key; infinity where too few are known.
        chance: Returns a number in [0, 1), for backoff and jitter.
    """

    standing_of: StandingOf
    budgets: Budgets
    slow_after: Callable[[str, float], float]
    chance: Callable[[], float]
