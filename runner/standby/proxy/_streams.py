"""A streamed answer: headers when there is content, then the provider's events as they come.

Until there is content everything that fails is invisible to the caller but for the trail. After it a failure ends the
stream with one error event: it is never ended as if it were complete. What ends it, and what that event is like, is
a matter of what its caller speaks; sound has no events, and is cut together with its connection. Sending waits for a
caller that reads slowly, and nothing is read meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from standby.runner import RunStream, StreamInterrupted

from ._answers import error_content, record_headers
from ._asked import path_of
from ._connected import while_connected
from ._refusals import Refusal

DONE: Final = b"data: [DONE]\n\n"
NAMED: Final = ("/v1/messages", "/v1/responses")
"""Where events have names."""
END_THEMSELVES: Final = (*NAMED, "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations")
"""Where the last event of a stream that is complete says so itself."""
STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_NUMBER: Final = re.compile(rb'"sequence_number"\s*:\s*(\d{1,18})')


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
        try:
            await while_connected(receive, lambda: self._answer(path_of(scope), send))
        except ClientDisconnect:
            pass  # nobody is there
        except Exception as failed:  # noqa: BLE001 - `_refused` raises what it has no answer to
            await self._refused(failed)(scope, receive, send)

    async def _answer(self, path: str, send: Send) -> None:
        stream: RunStream | None = None
        try:
            stream = self._begin()
            async with stream:
                headers = {**STREAM_HEADERS, **record_headers(stream.record)}
                if not stream.has_events:
                    headers["content-type"] = stream.content_type
                raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
                await send({"type": "http.response.start", "status": 200, "headers": raw})
                await _pass_on(stream, path, send)
        finally:
            self._ended(stream)


async def _pass_on(stream: RunStream, path: str, send: Send) -> None:
    last = b""
    try:
        while (block := await stream.read()) is not None:
            last = block.raw
            await send(_part(last))
    except StreamInterrupted as broken:
        if not stream.has_events:
            return  # an answer that is not ended is cut by the server
        refusal = Refusal(502, "upstream_error", "stream_interrupted", f"The stream broke: {broken.__cause__}")
        event = break_of(path, refusal, stream.record.run_id, last)
        await send(_part(event, more=False))
    else:
        said_so = path in END_THEMSELVES or last.endswith(DONE)
        await send(_part(b"" if said_so else DONE, more=False))


def break_of(path: str, refusal: Refusal, run_id: str, last: bytes) -> bytes:
    """The event that ends a stream that broke, in the dialect of ``path``.

    Args:
        path: What was asked for.
        refusal: What is wrong.
        run_id: The run's id.
        last: What was sent last: where events are numbered this one is the next.
    """
    content = error_content(path, refusal, run_id)
    if path == "/v1/responses":
        # As the reference has it, and as OpenAI's servers send it: its clients raise for what is under `error`.
        flat = {key: content["error"][key] for key in ("code", "message", "param")}
        content = {"type": "error", "sequence_number": _number_after(last), **flat, **content}
    event = b"data: " + orjson.dumps(content) + b"\n\n"
    return b"event: error\n" + event if path in NAMED else event


def _number_after(last: bytes) -> int:
    numbers = _NUMBER.findall(last)
    return int(numbers[-1]) + 1 if numbers else 0


def _part(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}
