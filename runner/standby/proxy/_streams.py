"""A streamed answer: headers when there is content, then the provider's events as they come.

Until there is content everything that fails is invisible to the caller but for the trail. After it a failure ends the
stream with one error event and no ``[DONE]``: it is never ended as if it were complete. Sending waits for a caller that
reads slowly, and nothing is read from the provider meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from standby.runner import Block, RunStream, StreamInterrupted

from ._answers import error_content, record_headers
from ._asked import path_of
from ._refusals import Refusal

DONE: Final = b"data: [DONE]\n\n"
STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class EventStream(Response):
    """Runs a stream, unless the caller goes away first: then the run is cancelled.

    Args:
        begin: Makes the run.
        ended: Is told the stream when it is over, however it ended; `None` where it could not be made.
        refused: What to answer to a run that failed before its first content, and to what else is wrong with it.
    """

    def __init__(
        self,
        begin: Callable[[], RunStream],
        ended: Callable[[RunStream | None], None],
        refused: Callable[[Exception], Response],
    ) -> None:
        super().__init__()
        self._begin = begin
        self._ended = ended
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        failed: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_gone, receive, tasks.cancel_scope)
            failed = await self._answer(path_of(scope), send)
            tasks.cancel_scope.cancel()
        if failed is not None:
            await self._refused(failed)(scope, receive, send)

    async def _answer(self, path: str, send: Send) -> Exception | None:
        """Send the stream; what went wrong is returned, since the task group above would wrap it."""
        stream: RunStream | None = None
        try:
            stream = self._begin()
            async with stream:
                headers = {**STREAM_HEADERS, **record_headers(stream.record)}
                raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
                await send({"type": "http.response.start", "status": 200, "headers": raw})
                await _pass_on(stream, path, send)
        except Exception as error:  # noqa: BLE001 - as said above
            return error
        finally:
            self._ended(stream)
        return None


async def until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel ``scope`` as soon as the caller's connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _pass_on(stream: RunStream, path: str, send: Send) -> None:
    last: Block | None = None
    try:
        while (block := await stream.read()) is not None:
            last = block
            await send(_part(block.raw))
    except StreamInterrupted as broken:
        refusal = Refusal(502, "upstream_error", "stream_interrupted", f"The stream broke: {broken.__cause__}")
        event = orjson.dumps(error_content(path, refusal, stream.record.run_id))
        await send(_part(b"data: " + event + b"\n\n", more=False))
    else:
        said_so = last is not None and last.raw.endswith(DONE)
        await send(_part(b"" if said_so else DONE, more=False))


def _part(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}
