"""How answers are written: the headers that tell of a run, and errors in the dialect of the path. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from standby.runner import RunRecord, Try

from ._refusals import Refusal

MAX_TRAIL_CHARACTERS: Final = 4096
"""Clients and proxies bound a header; a longer trail keeps its end, which says how the run ended."""
MAX_MESSAGE_CHARACTERS: Final = 8000
MAX_RETRY_AFTER_SECONDS: Final = 86_400

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*\Z")
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def json_answer(value: Any, status: int = 200) -> Response:
    """``value`` as JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def error_answer(path: str, refusal: Refusal, run_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that ``refusal`` is, in the dialect of ``path``, with the run's id at the message's end.

    Args:
        path: What was asked for.
        refusal: What is wrong.
        run_id: The run's id; one that was given to the request where there was no run.
        headers: What the run did; nothing was sent anywhere where left out.
    """
    content = error_content(path, refusal, run_id)
    sent = {**_headers(run_id, 0, 0, 0.0), **(headers or {})}
    if refusal.retry_after_seconds is not None:
        seconds = max(1.0, min(refusal.retry_after_seconds, MAX_RETRY_AFTER_SECONDS))
        sent["retry-after"] = str(math.ceil(seconds))
    if refusal.status == 401:
        sent["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(content), refusal.status, sent, media_type="application/json")


def error_content(path: str, refusal: Refusal, run_id: str) -> dict[str, Any]:
    """The JSON object that ``refusal`` is, in the dialect of ``path``; also one event of a stream."""
    message = f"{refusal.message[:MAX_MESSAGE_CHARACTERS]} (run {run_id})"
    if path.startswith("/v1/messages"):
        kind = _ANTHROPIC_TYPES.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": run_id}
    return {"error": {"message": message, "type": refusal.type, "code": refusal.code, "param": refusal.param}}


def record_headers(record: RunRecord) -> dict[str, str]:
    """What a run did, in headers; on success and on error."""
    headers = _headers(record.run_id, record.attempts, record.failovers, record.queued_seconds)
    if record.candidate is not None:
        headers["x-standby-candidate"] = record.candidate
    if trail := trail_of(record):
        headers["x-standby-trail"] = trail
    return headers


def trail_of(record: RunRecord) -> str:
    """The tries of a run as a list of RFC 8941, one member a try."""
    members: list[str] = []
    size = 0
    for tried in reversed(record.tries):
        if tried.n:
            member = _member(tried)
            size += len(member) + 2
            if members and size > MAX_TRAIL_CHARACTERS:
                break
            members.append(member)
    return ", ".join(reversed(members))


def _headers(run_id: str, attempts: int, failovers: int, queued_seconds: float) -> dict[str, str]:
    return {
        "x-standby-run-id": run_id,
        "x-standby-attempts": str(attempts),
        "x-standby-failovers": str(failovers),
        "x-standby-queued-ms": str(round(queued_seconds * 1000)),
    }


def _member(tried: Try) -> str:
    member = f"{_item(tried.candidate)};n={tried.n};outcome={tried.outcome}"
    if tried.failure is None:
        return member
    status = f";status={tried.failure.info.status}" if tried.failure.info.status else ""
    return f"{member}{status};decision={tried.did};rule={tried.rule[0]}"


def _item(text: str) -> str:
    """A token where it is one, else a string; a candidate's id has no character that needs an escape."""
    return text if _TOKEN.match(text) else f'"{text}"'
