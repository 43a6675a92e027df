"""How long candidates took to answer lately, for hedges that wait for the slow ones. Pure."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

REMEMBERED: Final = 100
ENOUGH: Final = 20
NEWS: Final = 20
"""So many new times are put in order together: to do so for every call would cost more than the rest of a hedge."""


class Latencies:
    """The last `REMEMBERED` times to the answer, or to the first content of a stream, of each candidate."""

    def __init__(self) -> None:
        self._known: dict[str, _Times] = {}

    def add(self, candidate: str, seconds: float) -> None:
        """``candidate`` took so long."""
        known = self._known.get(candidate)
        if known is None:
            known = self._known[candidate] = _Times()
        known.latest.append(seconds)
        known.news += 1

    def slow_after(self, candidate: str, percentile: float) -> float:
        """What so many per cent of them were no slower than; infinity where fewer than `ENOUGH` are known.

        Of `REMEMBERED` times up to `NEWS` may be missing that came since they were last put in order.
        """
        known = self._known.get(candidate)
        if known is None or len(known.latest) < ENOUGH:
            return math.inf
        if known.news >= NEWS or (known.news and len(known.in_order) < REMEMBERED):
            known.in_order = sorted(known.latest)
            known.news = 0
        return known.in_order[math.ceil(len(known.in_order) * percentile / 100) - 1]


class _Times:
    __slots__ = ("in_order", "latest", "news")

    def __init__(self) -> None:
        self.latest: deque[float] = deque(maxlen=REMEMBERED)
        self.in_order: list[float] = []
        self.news = 0
