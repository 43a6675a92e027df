"""The one place that reads time. Everything else is told what time it is.

A run counts on one line: seconds since the epoch, moved by the steady clock. The two are tied together once, when the
run starts, so that a clock that is set while a run is under way moves none of its deadlines, and a process that lives
for months does not drift from what other processes call now.
"""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """Where time comes from; tests bring their own."""

    def steady(self) -> float:
        """Seconds from an arbitrary start; the clock that `anyio` sleeps by."""
        ...

    def epoch(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The event loop's clock and the machine's."""

    def steady(self) -> float:
        """Seconds on the event loop's clock."""
        return anyio.current_time()

    def epoch(self) -> float:
        """Seconds since the epoch, by the machine's clock."""
        return time.time()


class Timeline:
    """One run's time."""

    __slots__ = ("_clock", "_offset")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.epoch() - clock.steady()

    def now(self) -> float:
        """Seconds since the epoch, steadily counted from the start of the run."""
        return self._clock.steady() + self._offset

    def steady(self, at: float) -> float:
        """The moment ``at`` of this timeline on the clock that `anyio` sleeps by."""
        return at - self._offset

    def at(self, steady: float) -> float:
        """The moment ``steady`` of the clock that `anyio` sleeps by, on this timeline."""
        return steady + self._offset
