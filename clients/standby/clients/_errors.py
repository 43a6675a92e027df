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
      (?<=://) [^\s/@:]{0,200} : [^\s/@]{1,200} (?=@)                       # a password in an address
    | (?<=[Bb]earer\ ) [^\s"',;]+ | (?<=[Bb]asic\ ) [A-Za-z0-9+/=]{8,}
    | (?i: (?<=key=) | (?<=key:\ ) | (?<=key\ provided:\ ) | (?<=token=) | (?<=secret=) | (?<=password=) )
      [^\s"'&,;<>]{6,} (?<![.:])                                           # what a text calls a key
    | \b (?: sk | pk | rk | gsk | csk | pplx | nvapi ) [-_] [A-Za-z0-9_*.-]{8,} (?<!\.)       # vendors' prefixes
    | \b (?: hf | ghp | gho | ghs | github_pat | tgp | fw | r8 ) _ [A-Za-z0-9_*]{8,}
    | \b (?: glpat | xoxb | xoxp | xai | ya29\. ) [-.]? [A-Za-z0-9_*-]{16,}
    | \b (?: AIza [A-Za-z0-9_-]{20,} | A[KS]IA [A-Z0-9]{12,} )
    | \b eyJ [A-Za-z0-9_-]{10,} \. [A-Za-z0-9_-]+ \. [A-Za-z0-9_-]*         # a signed token
    """,
    re.VERBOSE,
)
_LONG_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{32,}(?![A-Za-z0-9])")


def redacted(text: str) -> str:
    """``text`` with anything that looks like a key taken out.

    A long word counts if it has digits and letters of both cases, or more than forty characters: names of models have
    neither, and an id of a request in hexadecimal stays readable.
    """
    return _LONG_WORD.sub(_without_random, _KEY_LIKE.sub("[redacted]", text))


def _without_random(match: re.Match[str]) -> str:
    word = match.group()
    has_digits = any(map(str.isdigit, word))
    mixed = word not in (word.lower(), word.upper())
    return "[redacted]" if has_digits and not word.isdigit() and (mixed or len(word) > 40) else word


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
