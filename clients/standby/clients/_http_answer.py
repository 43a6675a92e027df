"""An answer as a value, for those who judge it and have no business with HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_REQUEST_ID_HEADERS: Final = ("apim-request-id", "x-request-id", "request-id", "x-amzn-requestid")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer of any status: header names in lower case, the body decompressed."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def request_id_of(headers: Mapping[str, str]) -> str:
    """The vendor's own id of the call, or an empty string."""
    for name in _REQUEST_ID_HEADERS:
        if name in headers:
            return headers[name][:200]
    return ""
