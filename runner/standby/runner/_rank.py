"""The order of a run: by effective priority, by weighted draw among equals. Pure.

The groups of equal priority are the same for every run until some standing changes or a demotion wears off, so they are
made once and kept; a run draws from them as it goes, and the usual run draws once.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, groupby

from ._health import StandingOf, effective_priority
from ._route import Route, RouteCandidate

Chance = Callable[[], float]
"""Returns a number in [0, 1)."""


_Group = tuple[tuple[RouteCandidate, ...], tuple[float, ...]]
"""Candidates of equal rank, and their weights summed up one after the other."""


class Ranking:
    """A route's candidates in groups of equal effective priority, best first."""

    __slots__ = ("_groups", "_valid_until", "generation")

    def __init__(self, route: Route, standing_of: StandingOf, generation: int, now: float) -> None:
        ranked = sorted(
            ((effective_priority(candidate, standing_of, now), candidate) for candidate in route.candidates),
            key=lambda pair: pair[0],
        )
        self.generation = generation
        self._groups = tuple(_group(group) for _, group in groupby(ranked, key=lambda pair: pair[0]))
        self._valid_until = min(
            (
                standing.demotion_changes_at(now)
                for candidate in route.candidates
                if (standing := standing_of(candidate.domains.candidate)) is not None
            ),
            default=math.inf,
        )

    def valid(self, generation: int, now: float) -> bool:
        """Whether nothing has changed since these groups were made."""
        return generation == self.generation and now < self._valid_until

    def order(self, chance: Chance) -> Iterator[RouteCandidate]:
        """The candidates in one run's order, drawn as they are asked for."""
        for group in self._groups:
            yield from group[0] if len(group[0]) == 1 else _drawn(group, chance)


def _group(ranked: Iterable[tuple[int, RouteCandidate]]) -> _Group:
    candidates = tuple(candidate for _, candidate in ranked)
    return candidates, _bounds(candidates)


def _drawn(group: _Group, chance: Chance) -> Iterator[RouteCandidate]:
    candidates, bounds = group
    first = _draw(bounds, chance)
    yield candidates[first]
    left = [candidate for index, candidate in enumerate(candidates) if index != first]
    while left:
        yield left.pop(_draw(_bounds(left), chance))


def _draw(bounds: Sequence[float], chance: Chance) -> int:
    """An index, each with its share of the weights that ``bounds`` sums up."""
    return min(bisect_right(bounds, chance() * bounds[-1]), len(bounds) - 1)


def _bounds(candidates: Sequence[RouteCandidate]) -> tuple[float, ...]:
    return tuple(accumulate(candidate.weight for candidate in candidates))
