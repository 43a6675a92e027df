"""How long candidates took to answer lately, for hedges that wait for the slow ones. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Final

REMEMBERED: Final = 100
ENOUGH: Final = 20


class Latencies:
    """The last `REMEMBERED` times to the answer, or to the first content of a stream, of each candidate."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[deque[float], list[float]]] = {}

    def add(self, candidate: str, seconds: float) -> None:
        """``candidate`` took so long."""
        known = self._known.get(candidate)
        if known is None:
            known = self._known[candidate] = deque(), []
        # Kept in order too: to sort them for every call would cost more than all else that a hedge costs.
        latest, in_order = known
        if len(latest) == REMEMBERED:
            del in_order[bisect_left(in_order, latest.popleft())]
        latest.append(seconds)
        insort(in_order, seconds)

    def slow_after(self, candidate: str, percentile: float) -> float:
        """What so many per cent of them were no slower than; infinity where fewer than `ENOUGH` are known."""
        known = self._known.get(candidate)
        if known is None or len(known[1]) < ENOUGH:
            return math.inf
        return known[1][math.ceil(len(known[1]) * percentile / 100) - 1]
