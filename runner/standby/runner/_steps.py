"""What a plan tells its shell to do next, as values."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from ._budget import Extra
from ._record import Ending
from ._route import RouteCandidate


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Try this candidate now.

    Attributes:
        candidate: Whom.
        until: When the try is to be cut, on the run's timeline.
        clock: Whose clock that is: ``attemptSeconds``, ``firstTokenSeconds`` or ``deadline``.
        probe: The half-open domains whose probe must be leased first; empty for an ordinary try.
        admitted: Whether the queue already holds the local capacity for it.
        extra: What was paid for it, where it is a retry or a hedge.
        hedge: Whether it is one beside another call that is still under way.
        hedge_at: When somebody else may be asked beside it, should it still be silent then.
    """

    candidate: RouteCandidate
    until: float
    clock: str
    probe: tuple[str, ...] = ()
    admitted: bool = False
    extra: Extra | None = None
    hedge: bool = False
    hedge_at: float = inf


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until then, or until any standing changes."""

    until: float


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Wait in the queue for the local capacity of one of these, until then at the latest."""

    candidates: tuple[RouteCandidate, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Deliver:
    """Somebody answered: the run is over."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run is over without an answer; somebody may be free in ``retry_after_seconds``."""

    ending: Ending
    retry_after_seconds: float | None = None


Step = Call | Wait | Enqueue | Deliver | GiveUp

DELIVER: Final = Deliver()
