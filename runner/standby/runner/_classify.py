"""A failure's category, from its code, status and text. Pure; the table is the decision contract's, line by line."""

from __future__ import annotations

from typing import Final, NamedTuple

AUTH_CODES: Final = frozenset({"auth_failed", "invalid_api_key", "missing_credentials"})
AUTH_TEXTS: Final = ("api key", "apikey", "unauthorized", "authentication", "auth failed", "credential")
REQUEST_CODES: Final = frozenset({"bad_request", "invalid_request", "invalid_parameter", "missing_required"})


class FailureInfo(NamedTuple):
    """A classified failure: everything that a rule can match. A tuple, since one is made for every failure.

    Attributes:
        code: The client's code, trimmed and in lower case.
        message: What was said, as it was said.
        status: The HTTP status; 0 where no answer came.
        category: One of the twelve categories.
        target: The text that keywords are looked for in, trimmed and in lower case.
    """

    code: str
    message: str
    status: int
    category: str
    target: str


def classify(code: str, message: str, status: int) -> FailureInfo:
    """Classify a failure; the first line of the contract's table that holds gives its category."""
    code = code.strip().lower()
    category = _category(code, status, f"{code} {message}".lower())
    return FailureInfo(code, message, status, category, f"{code} {category} {status} {message}".strip().lower())


def _category(code: str, status: int, text: str) -> str:
    if code == "insufficient_balance":
        return "insufficient_balance"
    if code == "rate_limit" or status == 429:
        return "rate_limit"
    if code == "network":
        return "network"
    if code == "timeout" or status == 408 or "timeout" in text:
        return "timeout"
    if code == "stream_read_error":
        return "stream_error"
    if code == "overloaded" or "overloaded" in text:
        return "provider_overloaded"
    if status >= 500 or code == "server_error":
        return "provider_5xx"
    if code == "permission_denied":
        return "user_permission"
    if code in AUTH_CODES or status in (401, 403) or any(words in text for words in AUTH_TEXTS):
        return "auth_error"
    if "unsupported" in code:
        return "unsupported_model"
    if status == 400 or code in REQUEST_CODES or 401 <= status <= 499:
        return "request_error"
    return "client_error"
