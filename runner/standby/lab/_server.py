"""Asking a running gateway, over its admin API."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


class NoState(Exception):
    """What was asked for cannot be had; the message says why, and what would help."""


def asked_of_server(url: str, path: str, key_of_list: str, admin_key: str) -> Sequence[Mapping[str, Any]]:
    """The list of objects that a gateway answers with.

    Args:
        url: Where it listens.
        path: What is asked for.
        key_of_list: Where the list is in the answer.
        admin_key: Its admin key; empty where it has none, and is on this machine.

    Raises:
        NoState: It does not answer, or not like that.
    """
    if not url.startswith(("http://", "https://")):
        raise NoState(f"{url!r} is not an address: write http://HOST:PORT")
    headers = {"authorization": f"Bearer {admin_key}"} if admin_key else {}
    asked = urllib.request.Request(f"{url.rstrip('/')}{path}", headers=headers)  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            told: object = json.loads(answer.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as refused:
        with refused:
            raise NoState(f"{url} answers {refused.code}: {_message(refused.read(MAX_ANSWER_BYTES))}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise NoState(f"no gateway answers at {url}: {reason}") from None
    found = cast("Mapping[str, object]", told).get(key_of_list) if isinstance(told, dict) else None
    if not isinstance(found, list):
        raise NoState(f"what answers at {url} is no gateway of this version")
    return cast("Sequence[Mapping[str, Any]]", found)


def _message(content: bytes) -> str:
    try:
        message: object = json.loads(content)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return "no words"
    return str(message)[:500]
