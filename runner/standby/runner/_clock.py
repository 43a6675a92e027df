"""The one place that reads time. Everything else is told what time it is.

A run counts on one line: seconds since the epoch, moved by the steady clock. The two are tied together once, when the
run starts, so that a clock that is set while a run is under way moves none of its deadlines, and a process that lives
for months does not drift from what other processes call now.
"""

from __future__ import annotations

import math
import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """Where time comes from; tests bring their own."""

    def steady(self) -> float:
        """Seconds from an arbitrary start, never set, at the pace of the clock that `anyio` sleeps by."""
        ...

    def epoch(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    steady = staticmethod(time.monotonic)
    """Seconds on the machine's steady clock: a tenth of what it costs to ask the event loop."""

    epoch = staticmethod(time.time)
    """Seconds since the epoch, by the machine's clock."""


class Timeline:
    """One run's time.

    Attributes:
        steady: The steady clock, which all runs have in common; `at` gives its moments as moments of this run.
    """

    __slots__ = ("_offset", "steady")

    def __init__(self, clock: Clock) -> None:
        self.steady = clock.steady
        self._offset = clock.epoch() - clock.steady()

    def now(self) -> float:
        """Seconds since the epoch, steadily counted from the start of the run."""
        return self.steady() + self._offset

    def of(self, at: float) -> float:
        """The moment ``at`` of this timeline as one of the steady clock."""
        return at - self._offset

    def at(self, steady: float) -> float:
        """A moment of the steady clock as one of this timeline."""
        return steady + self._offset

    def deadline(self, at: float) -> float:
        """The moment ``at`` of this timeline as a deadline for a cancel scope."""
        return anyio.current_time() + (at - self.now())

    def of_deadline(self, deadline: float) -> float:
        """A cancel scope's deadline as a moment of this timeline; infinity stays what it is."""
        return deadline if math.isinf(deadline) else self.now() + (deadline - anyio.current_time())
