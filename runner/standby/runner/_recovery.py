"""Runs that wait until somebody is well again: one goes first, and what it finds lets the others go. Pure.

- Who waits for the same candidates waits in one line, first come, first served. Whoever is first looks at their health,
  whenever that may have changed, for all who wait there.
- Of candidates that are half open no more runs go at once than there are to be probed.
- When somebody is well a few go at once, one more for every two answers, half as many after a failure. So whoever comes
  back is asked for half as much again as it has just shown that it can do, and never for all at once.
- Who would wait in vain, since nobody can come back in its time any more, is told at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Final

from ._health import Availability, StandingOf, availability, probe_held_until
from ._left_over import Awaited
from ._route import RouteCandidate

FIRST: Final = 8
"""So many go at once when somebody is well again: it has answered a probe, and nothing else."""


class Waiter:
    """One run's place in a line.

    Attributes:
        due: When the run expects that it may go, as far as it knows.
        woken: Whether the run is to look what it may do now.
        turn: Whether it goes, and is to say by `Recovery.over` what came of it.
        wake: Called when it is woken, or is now the first of its line.
    """

    __slots__ = ("_latest", "_line", "_seen", "due", "turn", "wake", "woken")

    def __init__(self, line: _Line, due: float, latest: float) -> None:
        self.woken = False
        self.turn = False
        self.wake: Callable[[], object] = _nothing
        self._line = line
        self.due = due
        self._latest = latest
        self._seen = line.seen

    @property
    def looks(self) -> bool:
        """Whether it is the one that looks for all of its line."""
        return bool(self._line.candidates) and self._line.first is self

    def look(self, now: float) -> float:
        """Wake whoever may go now, or waits in vain; returns when time alone may change that, for who looks."""
        return self._line.look(now) if self.looks else inf

    def over(self, now: float, *, answered: bool | None) -> None:
        """It went, and was answered, failed, or came to no call after all."""
        if self.turn:
            self.turn = False
            self._line.over(now, answered=answered)

    def leave(self) -> None:
        """Wait no longer; nothing happens to who does not wait."""
        self._line.leave(self)

    def may_go(self, now: float) -> bool:
        """Whether there is news since it looked, or that was to be expected by now."""
        return self._line.seen is not self._seen or now >= self.due

    def in_vain_until(self, back_at: float) -> bool:
        """Whether it gives up before anybody is back."""
        return self._latest < inf and self._latest <= back_at


class Recovery:
    """All the lines of one runner."""

    def __init__(self, standing_of: StandingOf) -> None:
        self._lines: dict[frozenset[RouteCandidate], _Line] = {}
        self._standing_of = standing_of

    def join(self, awaited: Awaited, now: float, *, again: bool) -> Waiter:
        """Wait for those of whom the run may call nobody now; in front where it comes ``again``, from a turn."""
        key = frozenset(awaited.candidates)
        line = self._lines.get(key)
        if line is None:
            line = _Line(key, self._standing_of, self._ended)
            if key:  # who waits for nobody stands in no line
                self._lines[key] = line
                line.look(now)
        waiter = Waiter(line, awaited.due, awaited.latest)
        line.join(waiter, in_front=again)
        return waiter

    def _ended(self, line: _Line) -> None:
        if self._lines.get(line.candidates) is line:
            del self._lines[line.candidates]


class _Line:
    """Those who wait for the same candidates.

    Attributes:
        seen: What was last seen of the candidates; another object where that is news.
    """

    __slots__ = ("_ended", "_out", "_standing_of", "_waiting", "_width", "candidates", "seen")

    def __init__(
        self, candidates: frozenset[RouteCandidate], standing_of: StandingOf, ended: Callable[[_Line], object]
    ) -> None:
        self.candidates = candidates
        self.seen: tuple[tuple[Availability, float], ...] = ()
        self._standing_of = standing_of
        self._ended = ended
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._out = 0
        self._width: float = FIRST

    @property
    def first(self) -> Waiter | None:
        return next(iter(self._waiting), None)

    def join(self, waiter: Waiter, *, in_front: bool) -> None:
        self._waiting[waiter] = None
        if in_front:
            self._waiting.move_to_end(waiter, last=False)

    def leave(self, waiter: Waiter) -> None:
        was_first = self.first is waiter
        self._waiting.pop(waiter, None)
        if was_first and (first := self.first) is not None:
            first.wake()
        self._end_if_empty()

    def over(self, now: float, *, answered: bool | None) -> None:
        self._out -= 1
        if answered is not None:
            self._width = self._width + 0.5 if answered else max(1.0, self._width / 2)
        if self._waiting:
            self.look(now)
        self._end_if_empty()

    def look(self, now: float) -> float:
        seen = tuple(self._look_at(candidate, now) for candidate in self.candidates)
        if seen != self.seen:
            self.seen = seen
        well = any(found.verdict == "usable" for found, _ in seen)
        probed_until = [until for found, until in seen if found.verdict == "probe"]
        cooling_until = [found.until for found, _ in seen if found.verdict == "cooling"]
        if well or probed_until:
            self._width = self._width if well else FIRST
            if well or min(probed_until) <= now:
                self._let_go(self._width if well else len(probed_until), now)
        else:
            self._tell_in_vain(min(cooling_until, default=inf))
        due = inf if (first := self.first) is None else first.due
        return min((at for at in (*cooling_until, *probed_until, due) if at > now), default=inf)

    def _look_at(self, candidate: RouteCandidate, now: float) -> tuple[Availability, float]:
        found = availability(candidate, self._standing_of, now)
        return found, probe_held_until(found.domains, self._standing_of)

    def _let_go(self, at_once: float, now: float) -> None:
        while self._out + 1 <= at_once and (first := self.first) is not None and first.may_go(now):
            self._out += 1
            first.turn = True
            self._wake(first)

    def _tell_in_vain(self, back_at: float) -> None:
        for waiter in [each for each in self._waiting if each.in_vain_until(back_at)]:
            self._wake(waiter)

    def _wake(self, waiter: Waiter) -> None:
        waiter.woken = True
        waiter.wake()
        self.leave(waiter)

    def _end_if_empty(self) -> None:
        if not self._waiting and not self._out:
            self._ended(self)


def _nothing() -> None:
    pass
