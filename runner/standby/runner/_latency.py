"""How long candidates took to answer lately, for hedges that wait for the slow ones. Pure."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

REMEMBERED: Final = 100
ENOUGH: Final = 20


class Latencies:
    """The last `REMEMBERED` times to the answer, or to the first content of a stream, of each candidate."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}

    def add(self, candidate: str, seconds: float) -> None:
        """``candidate`` took so long."""
        known = self._seconds.get(candidate)
        if known is None:
            known = self._seconds[candidate] = deque(maxlen=REMEMBERED)
        known.append(seconds)

    def slow_after(self, candidate: str, percentile: float) -> float:
        """What so many per cent of them were no slower than; infinity where fewer than `ENOUGH` are known."""
        known = self._seconds.get(candidate, ())
        if len(known) < ENOUGH:
            return math.inf
        return sorted(known)[math.ceil(len(known) * percentile / 100) - 1]
