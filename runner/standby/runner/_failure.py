"""What a client raised, as a failure: classified once, its hint bounded. Pure."""

from __future__ import annotations

from typing import Final

from standby.clients import ClientError, redacted

from ._classify import classify
from ._record import Failure

MAX_HINT_SECONDS: Final = 365 * 86400.0


def failure_of(error: Exception) -> Failure:
    """Classify what a client raised; what is not a `ClientError` is nobody's word on anything but itself."""
    if isinstance(error, ClientError):
        info = classify(error.code, error.message, error.status)
        return Failure(info, error.retryable, _bounded(error.hint), error.scope, error.work, error.request_id, error)
    info = classify("", redacted(str(error) or type(error).__name__), 0)
    return Failure(info, False, None, "candidate", "unknown", "", error)


def local_failure() -> Failure:
    """Our own limit left no capacity for a call."""
    error = ClientError("rate_limit", "local capacity exceeded", retryable=True, scope="local", work="not_sent")
    return Failure(classify("rate_limit", error.message, 0), True, None, "local", "not_sent", "", error)


def _bounded(hint: float | None) -> float | None:
    """A hint is never trusted: what is no number of seconds is none, and nothing is longer than a year."""
    return min(hint, MAX_HINT_SECONDS) if hint is not None and hint >= 0 else None
