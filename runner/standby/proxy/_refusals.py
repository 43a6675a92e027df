"""What the server refuses, and the error table of the HTTP contract. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from standby.clients import ClientError
from standby.runner import Failure, RunFailed, Try
from standby.store import Cool

_OF_THE_CREDENTIAL: Final = frozenset({"auth_error", "insufficient_balance", "user_permission"})
_NEVER_SHOWN: Final = frozenset({401, 402, 407})
_MAX_LISTED: Final = 20
_MAX_QUOTED: Final = 100


@dataclass(eq=False)
class Refusal(Exception):
    """An error answer, before it is written in a dialect; raised anywhere, written in one place.

    Attributes:
        status: The HTTP status.
        type: What kind of error it is, in OpenAI's words.
        code: Which one.
        message: For a person.
        param: The field of the request that is wrong.
        retry_after_seconds: When to come again.
    """

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_seconds: float | None = None


def bad_request(code: str, message: str, param: str | None = None) -> Refusal:
    """The request is wrong."""
    return Refusal(400, "invalid_request_error", code, message, param)


def not_found(code: str, message: str, param: str | None = None) -> Refusal:
    """The request names what is not there."""
    return Refusal(404, "invalid_request_error", code, message, param)


def not_yet(what: str) -> Refusal:
    """The answer to what the contract names and this version cannot do."""
    return Refusal(501, "not_implemented_error", "not_supported_yet", f"{what} is not supported yet.")


def at_limit(code: str, message: str, seconds: float | None) -> Refusal:
    """Too much is asked for at present; a second is as good a guess as any where nobody knows how long that lasts."""
    return Refusal(429, "rate_limit_error", code, message, None, 1.0 if seconds is None else seconds)


def quoted(text: str) -> str:
    """``text`` as a message may repeat it: one line, and not too much of it."""
    return repr(text) if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]!r}..."


def listed(names: Iterable[str]) -> str:
    """The names as a message may list them."""
    given = sorted(names)
    more = f" and {len(given) - _MAX_LISTED} more" if len(given) > _MAX_LISTED else ""
    return (", ".join(given[:_MAX_LISTED]) or "none") + more


# -- the error table ---------------------------------------------------------------------------------------------


def refusal_of(failed: RunFailed) -> Refusal:
    """What the caller hears of a run that failed."""
    seconds = failed.retry_after_seconds
    match failed.ending:
        case "stopped":
            return _stopped(failed)
        case "deadline":
            return _deadline_passed()
        case "queue_full":
            return at_limit("queue_full", "Every candidate is at its limit and the queue is full.", seconds)
        case "queue_timeout":
            message = "Every candidate is at its limit and the wait in the queue ran out."
            return at_limit("queue_timeout", message, seconds)
        case "unavailable" if seconds is not None:
            return at_limit("cooling_down", "Every candidate is cooling down after failures.", seconds)
        case "unavailable":
            return _nobody_tried()
        case _:
            return _all_failed(failed)


def _stopped(failed: RunFailed) -> Refusal:
    last = failed.record.tries[-1] if failed.record.tries else None
    failure = None if last is None else last.failure
    if last is None or failure is None:
        return _nobody_tried()
    if failure.blame == "caller":
        return _deadline_passed()
    if not last.n:
        return at_limit("local_limit", "The candidate is at its limit here.", failed.retry_after_seconds)
    return _translated(failure) if _refused_the_request(failure, last) else _all_failed(failed)


def _refused_the_request(failure: Failure, tried: Try) -> bool:
    """Whether the provider refused what was asked, and not us: our credentials are no business of the caller's."""
    category, status = failure.info.category, failure.info.status
    if status in _NEVER_SHOWN or (category in _OF_THE_CREDENTIAL and failure.blame != "request"):
        return False
    if category in ("request_error", "unsupported_model") or failure.blame == "request":
        return True
    return tried.rule[0] == "hard_stop_policy" and 400 <= status <= 499


def _translated(failure: Failure) -> Refusal:
    """The provider's own status and error. An error inside of a success is the request's all the same: 400."""
    vendor: Mapping[str, Any] = (failure.error.vendor if isinstance(failure.error, ClientError) else None) or {}
    status = failure.info.status if 400 <= failure.info.status <= 499 else 400
    return Refusal(
        status,
        _text(vendor.get("type")) or "invalid_request_error",
        _text(vendor.get("code")) or failure.info.code,
        failure.info.message or "The provider refused the request.",
        _text(vendor.get("param")) or None,
        failure.hint or (1.0 if status == 429 else None),
    )


def _all_failed(failed: RunFailed) -> Refusal:
    last_of_each = {tried.candidate: tried for tried in failed.record.tries if tried.n}
    if not last_of_each:
        return _nobody_tried()
    if all(tried.outcome == "rate_limit" for tried in last_of_each.values()):
        known = [*_free_in(last_of_each.values())]
        if failed.retry_after_seconds is not None:
            known.append(failed.retry_after_seconds)
        return at_limit("rate_limit_exceeded", "Every candidate is rate limited.", min(known, default=None))
    told = ", ".join(f"{candidate}: {_outcome(tried)}" for candidate, tried in last_of_each.items())
    return Refusal(502, "upstream_error", "all_candidates_failed", f"No candidate answered ({told}).")


def _outcome(tried: Try) -> str:
    """What came of a try; why, where that is the request's fault, so that its caller can mend it."""
    failure = tried.failure
    if failure is None or failure.blame != "request":
        return tried.outcome
    return f"{tried.outcome}, {failure.info.message}"


def _free_in(tries: Iterable[Try]) -> Iterator[float]:
    """In how many seconds each candidate is free again, where its last try says so."""
    for tried in tries:
        cooled_until = max((effect.until for effect in tried.effects if isinstance(effect, Cool)), default=None)
        if cooled_until is not None:
            yield cooled_until - tried.ended_at
        elif tried.failure is not None and tried.failure.hint is not None:
            yield tried.failure.hint


def _nobody_tried() -> Refusal:
    return Refusal(503, "service_unavailable_error", "no_candidate", "No candidate is usable.")


def _deadline_passed() -> Refusal:
    return Refusal(504, "timeout_error", "deadline_exceeded", "The request's deadline passed.")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
