"""Asking a running gateway, over its admin API."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

from standby.store import is_http_address

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
    if not is_http_address(url):
        # Not repeated: there may be a password in it.
        raise NoState("that is not the address of a gateway: write http://HOST:PORT, without user, ? and #")
    admin_key = admin_key.strip()  # a file that holds a key ends in a line break
    if not admin_key.isascii() or not admin_key.isprintable() or " " in admin_key:
        raise NoState("STANDBY_ADMIN_KEY is no key: it must be printable ASCII text without spaces")
    headers = {"authorization": f"Bearer {admin_key}"} if admin_key else {}
    asked = urllib.request.Request(f"{url.rstrip('/')}{path}", headers=headers)  # noqa: S310 - checked above
    try:
        with _opener().open(asked, timeout=TIMEOUT_SECONDS) as answer:
            told: object = json.loads(answer.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as refused:
        with refused:
            help_ = "; the admin key is taken from STANDBY_ADMIN_KEY" if refused.code in (401, 403) else ""
            raise NoState(f"{url} answers {refused.code}: {_message(refused.read(MAX_ANSWER_BYTES))}{help_}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise NoState(f"no gateway answers at {url}: {reason}") from None
    found = cast("Mapping[str, object]", told).get(key_of_list) if isinstance(told, dict) else None
    if not isinstance(found, list):
        raise NoState(f"what answers at {url} is no gateway of this version")
    return cast("Sequence[Mapping[str, Any]]", found)


@cache
def _opener() -> urllib.request.OpenerDirector:
    """Without proxies and redirects: the admin key is for whom the operator named, and nobody else."""
    opener = urllib.request.OpenerDirector()
    for handler in ("HTTPHandler", "HTTPSHandler", "HTTPErrorProcessor", "HTTPDefaultErrorHandler"):
        opener.add_handler(getattr(urllib.request, handler)())
    return opener


def _message(content: bytes) -> str:
    try:
        message: object = json.loads(content)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return "no words"
    return str(message)[:500]
