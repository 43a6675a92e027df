"""How a stream fails, once its answer has begun: the same for every dialect. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Protocol

import anyio

from ._errors import ClientError
from ._http_answer import request_id_of

DRAIN_SECONDS: Final = 0.1
"""How long the end of the HTTP answer is waited for after the end of the stream, to keep the connection."""

MAX_SILENT_BYTES: Final = 1024 * 1024
"""How much a stream may send before its first content: it is held back, and memory is bounded."""


class StreamedAnswer(Protocol):
    """What is read from: the head has come, the body comes piece by piece."""

    status: int
    headers: Mapping[str, str]

    async def read_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes of the body; empty at its end."""
        ...


def broken(answer: StreamedAnswer, error: ClientError | None) -> ClientError:
    """The stream broke: what is wrong with the connection below is wrong with the stream.

    Args:
        answer: What was read from.
        error: How the connection failed; `None` where the stream just ended too early.
    """
    if error is not None and error.code not in ("network", "timeout"):
        return error
    failure = ClientError(
        "stream_read_error",
        "the stream ended before it was finished" if error is None else error.message,
        status=answer.status,
        retryable=True,
        scope="candidate" if error is None else error.scope,
        work="billed",
        request_id=request_id_of(answer.headers),
    )
    failure.__cause__ = error
    return failure


async def drain(answer: StreamedAnswer) -> None:
    """Read the end of the HTTP answer, if it comes soon: its connection can then be used again."""
    with suppress(ClientError), anyio.move_on_after(DRAIN_SECONDS):
        await answer.read_some()
