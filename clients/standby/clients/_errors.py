"""What a client says of a failed call.

::

    Exception
    └── ClientError     every way a call can fail; the fields say which, a caller asks them and not the type

One class is enough: whoever handles a failed call acts on its code, status and scope, and those are data that policies
match. What went wrong underneath is kept as ``__cause__``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

Blame = Literal["request", "credential", "credential_model", "candidate", "provider", "local", "caller"]
"""Whom a failure concerns. ``local`` and ``caller`` failures never touch a provider's health."""

Work = Literal["not_sent", "rejected", "unknown", "billed"]
"""What the provider did before the call failed: nothing, refused it, nobody knows, or work that is paid for."""

MAX_MESSAGE_CHARACTERS: Final = 2000

_KEY_LIKE = re.compile(
    r"""
    (?: \b(?:sk|pk|rk|gsk|xai|key|pplx|r8|hf|ghp|AIza|AKIA)[-_]?[A-Za-z0-9_\-*.]{12,}   # vendors' prefixes
      | (?<=[Bb]earer\ )\S+
      | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+                          # a signed token
      | \b(?=[A-Za-z0-9_-]*\d)(?=[A-Za-z0-9_-]*[A-Za-z])[A-Za-z0-9_-]{40,}\b             # long and random
    )
    """,
    re.VERBOSE,
)


def redacted(text: str) -> str:
    """``text`` with anything that looks like a key taken out."""
    return _KEY_LIKE.sub("[redacted]", text)


class ClientError(Exception):
    """A call that failed.

    Attributes:
        code: What failed, in the vocabulary of the client error contract, or the vendor's own code.
        message: The vendor's own words, trimmed, at most 2,000 characters, without keys.
        status: The answer's HTTP status; 0 where no answer came.
        retryable: Whether trying again, here or with another candidate, may help.
        hint: How many seconds the provider asks to be left alone; `None` where it did not say.
        scope: Whom the failure concerns.
        work: What the provider did before it failed.
        request_id: The vendor's own id of the call, or an empty string.
        vendor: The error object of the answer as the vendor wrote it, without keys; `None` where there was none.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int = 0,
        retryable: bool = False,
        hint: float | None = None,
        scope: Blame = "candidate",
        work: Work = "unknown",
        request_id: str = "",
        vendor: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.message = redacted(message.strip())[:MAX_MESSAGE_CHARACTERS]
        self.status = status
        self.retryable = retryable
        self.hint = hint
        self.scope: Blame = scope
        self.work: Work = work
        self.request_id = request_id
        self.vendor = vendor
        super().__init__(self.message)

    def __str__(self) -> str:
        status = f" (status {self.status})" if self.status else ""
        return f"{self.code}{status}: {self.message}" if self.message else f"{self.code}{status}"

    def __repr__(self) -> str:
        return f"ClientError({self.code!r}, {self.message!r}, status={self.status}, retryable={self.retryable})"
