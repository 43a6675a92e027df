"""The words that policies and records have in common; without pydantic, so that who only runs need not wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

Category = Literal[
    "insufficient_balance",
    "rate_limit",
    "network",
    "timeout",
    "stream_error",
    "provider_overloaded",
    "provider_5xx",
    "user_permission",
    "auth_error",
    "unsupported_model",
    "request_error",
    "client_error",
]
Action = Literal["next", "cooldown_and_next", "disable_and_next"]
PriorityClass = Literal["high", "normal", "low"]
Scope = Literal["candidate", "credential", "credential_model", "provider"]

CATEGORIES: Final[tuple[str, ...]] = get_args(Category)
"""The twelve categories of the decision contract, in the order in which they are tested for."""

DEFAULT_SCOPES: Final[Mapping[str, Scope]] = {
    "rate_limit": "credential_model",
    "auth_error": "credential",
    "insufficient_balance": "credential",
    "provider_overloaded": "provider",
}
"""What a failure's cooldown covers, by category; the candidate alone where a category is missing."""
