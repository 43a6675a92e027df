"""Tokens that the host makes, and are asked for before each call. Whoever makes them keeps and renews them too."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import anyio.to_thread
from pydantic import SecretStr

from ._errors import ClientError

__all__ = ["Token", "token_of"]

Token = Callable[[], str | Awaitable[str]]
"""Returns a token, or what a token can be awaited from. One that is no coroutine function runs in a thread, since the
libraries of the clouds renew theirs with a call that blocks."""


async def token_of(token: Token) -> SecretStr:
    """A token, fresh from its maker.

    Raises:
        ClientError: ``auth_failed`` for whatever keeps it from being made; nothing was sent.
    """
    try:
        if inspect.iscoroutinefunction(token):
            told = await token()
        else:
            # In a list: Trio takes no function that returns an awaitable.
            [told] = await anyio.to_thread.run_sync(lambda: [token()], abandon_on_cancel=True)
            if inspect.isawaitable(told):
                told = await told
    except Exception as error:  # whatever the host's own function raises
        raise _refused(f"the token could not be had: {type(error).__name__}") from error
    if not isinstance(told, str) or not told.strip():
        raise _refused("the token could not be had: what was returned is no text, or empty")
    return SecretStr(told.strip())


def _refused(message: str) -> ClientError:
    return ClientError("auth_failed", message, scope="credential", work="not_sent")
