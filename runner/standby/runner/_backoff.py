"""How long a run waits before it tries the same candidate again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ._record import Failure
from ._route import RouteCandidate

HINT_JITTER: Final = 0.1
"""A hint is followed upward by at most this much, so that those who were told the same do not return together."""


def wait_before_retry(
    candidate: RouteCandidate, tries: int, failure: Failure, chance: Callable[[], float], seconds_left: float
) -> tuple[float | None, str]:
    """How long to wait; `None`, and why, where it is not tried again.

    Args:
        candidate: Who failed.
        tries: How often it was tried in this run.
        failure: How it failed the last time.
        chance: Returns a number in [0, 1).
        seconds_left: When the next try must begin, from now.
    """
    if tries >= candidate.max_attempts:
        return None, f"maxAttempts {candidate.max_attempts}"
    hint = failure.hint or 0.0
    if hint > candidate.backoff.max_seconds:
        return None, f"asked to wait {hint:g} s, longer than backoff.maxSeconds {candidate.backoff.max_seconds:g}"
    drawn = chance()
    wait_seconds = max(hint * (1 + HINT_JITTER * drawn), candidate.backoff_seconds(tries, drawn))
    if wait_seconds >= seconds_left:
        return None, "the deadline comes before the next try"
    return wait_seconds, ""
