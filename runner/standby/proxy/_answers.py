"""What the server says: answer headers, and errors in OpenAI's shape. Pure; the HTTP contract, line by line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.responses import Response

from standby.clients import ClientError
from standby.runner import Failure, RunFailed, RunRecord, Try

MAX_TRAIL_CHARACTERS: Final = 4096
"""Clients and proxies bound a header; a longer trail keeps its end, which says how the run ended."""

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*\Z")


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


def error_answer(refusal: Refusal, run_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that ``refusal`` is, in OpenAI's shape, with the run's id at the message's end."""
    content = {
        "error": {
            "message": f"{refusal.message} (run {run_id})",
            "type": refusal.type,
            "code": refusal.code,
            "param": refusal.param,
        }
    }
    sent = {"x-standby-run-id": run_id, **(headers or {})}
    if refusal.retry_after_seconds is not None:
        sent["retry-after"] = str(max(1, math.ceil(refusal.retry_after_seconds)))
    if refusal.status == 401:
        sent["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(content), refusal.status, sent, media_type="application/json")


def record_headers(record: RunRecord) -> dict[str, str]:
    """What a run did, in headers; on success and on error."""
    headers = {
        "x-standby-run-id": record.run_id,
        "x-standby-attempts": str(record.attempts),
        "x-standby-failovers": str(record.failovers),
        "x-standby-queued-ms": str(round(record.queued_seconds * 1000)),
    }
    if record.candidate is not None:
        headers["x-standby-candidate"] = record.candidate
    if trail := trail_of(record):
        headers["x-standby-trail"] = trail
    return headers


def trail_of(record: RunRecord) -> str:
    """The tries of a run as a list of RFC 8941, one member a try."""
    members = [_member(tried) for tried in record.tries if tried.n]
    while len(members) > 1 and sum(map(len, members)) + 2 * len(members) > MAX_TRAIL_CHARACTERS:
        del members[0]
    return ", ".join(members)


def _member(tried: Try) -> str:
    member = f"{_item(tried.candidate)};n={tried.n};outcome={tried.outcome}"
    if tried.failure is None:
        return member
    status = f";status={tried.failure.info.status}" if tried.failure.info.status else ""
    return f"{member}{status};decision={tried.did};rule={tried.rule[0]}"


def _item(text: str) -> str:
    """A token where it is one, else a string; a candidate's id has no character that needs an escape."""
    return text if _TOKEN.match(text) else f'"{text}"'


def refusal_of(failed: RunFailed) -> Refusal:
    """The error table of the HTTP contract."""
    seconds = failed.retry_after_seconds
    match failed.ending:
        case "stopped":
            return _stopped(failed)
        case "deadline":
            return Refusal(504, "timeout_error", "deadline_exceeded", "The request's deadline passed.")
        case "queue_full":
            message = "Every candidate is at its limit and the queue is full."
            return Refusal(429, "rate_limit_error", "queue_full", message, None, seconds or 1)
        case "queue_timeout":
            message = "Every candidate is at its limit and the wait in the queue ran out."
            return Refusal(429, "rate_limit_error", "queue_timeout", message, None, seconds or 1)
        case "unavailable" if seconds is not None:
            message = "Every candidate is cooling down after failures."
            return Refusal(429, "rate_limit_error", "cooling_down", message, None, seconds)
        case "unavailable":
            return Refusal(503, "service_unavailable_error", "no_candidate", "No candidate is usable.")
        case _:
            return _all_failed(failed)


def _stopped(failed: RunFailed) -> Refusal:
    failure = failed.last_failure
    if failure is not None and _refused_the_request(failure, failed.record.tries[-1]):
        return _translated(failure)
    return _all_failed(failed)


def _refused_the_request(failure: Failure, tried: Try) -> bool:
    """Whether the provider refused what was asked, and not us."""
    category, status = failure.info.category, failure.info.status
    if category in ("auth_error", "insufficient_balance", "user_permission"):
        return False  # our credentials are no business of the caller's
    return category in ("request_error", "unsupported_model") or (
        tried.rule[0] == "hard_stop_policy" and 400 <= status <= 499
    )


def _translated(failure: Failure) -> Refusal:
    """The provider's own status and error."""
    vendor: Mapping[str, Any] = (failure.error.vendor if isinstance(failure.error, ClientError) else None) or {}
    status = failure.info.status if 400 <= failure.info.status <= 499 else 400
    return Refusal(
        status,
        _text(vendor.get("type")) or "invalid_request_error",
        _text(vendor.get("code")) or failure.info.code,
        failure.info.message or "The provider refused the request.",
        _text(vendor.get("param")) or None,
        failure.hint,
    )


def _all_failed(failed: RunFailed) -> Refusal:
    record = failed.record
    hints = [tried.failure.hint for tried in record.tries if tried.failure is not None and tried.failure.hint]
    last_of_each = {tried.candidate: tried.outcome for tried in record.tries if tried.n}
    if set(last_of_each.values()) == {"rate_limit"} and all(skip.reason != "disabled" for skip in record.skips):
        message = "Every candidate is rate limited."
        seconds = failed.retry_after_seconds or min(hints, default=1)
        return Refusal(429, "rate_limit_error", "rate_limit_exceeded", message, None, seconds)
    if not last_of_each:
        return Refusal(503, "service_unavailable_error", "no_candidate", "No candidate could be tried.")
    tried = ", ".join(f"{candidate}: {outcome}" for candidate, outcome in last_of_each.items())
    return Refusal(502, "upstream_error", "all_candidates_failed", f"No candidate answered ({tried}).")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
