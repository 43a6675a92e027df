"""A stream in process: an answer that comes in scripted pieces, the events in them, and what a runner hears."""

import anyio
import orjson

from standby.clients import ClientError
from standby.clients._openai_stream import OpenAIStream
from tests.clients.conftest import NOW

DONE = b"data: [DONE]\n\n"
CUT = ClientError("network", "the connection was cut", status=200, retryable=True)


class Scripted:
    """An answer whose body comes in these pieces; an exception among them is raised, and "hang" is silence."""

    def __init__(self, *pieces, headers=None):
        self.status = 200
        self.headers = headers or {}
        self.pieces = list(pieces)

    async def read_some(self, max_bytes=None):
        piece = self.pieces.pop(0) if self.pieces else b""
        if piece == "hang":
            await anyio.sleep_forever()
        if isinstance(piece, Exception):
            raise piece
        return piece


def event(value):
    return b"data: " + orjson.dumps(value) + b"\n\n"


def delta(finish_reason=None, index=0, **said):
    return event({"choices": [{"index": index, "delta": said, "finish_reason": finish_reason}]})


ROLE = delta(role="assistant", content="")
HEL, LO = delta(content="Hel"), delta(content="lo")
STOP = delta("stop")
COUNT = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
WHOLE = [ROLE, HEL, LO, STOP, DONE]
NAMED_ERROR = b"event: error\n" + event({"message": "It broke.", "type": "server_error"})
CHOICE_ERROR = event({"choices": [{"delta": {}, "error": {"code": 502, "message": "The host failed."}}]})


def opened(*pieces, headers=None, **options):
    told = {"choices": 1, "hide_usage": False, "may_end_without_finish": False, "now": NOW, "scrub": str, **options}
    return OpenAIStream(Scripted(*pieces, headers=headers), **told)


async def heard(stream):
    """What a runner hears of ``stream``, which it commits to at the first content: bytes before and after, and the end.

    The end is `None` for a stream that is complete, else the error.
    """
    before, after = b"", b""
    try:
        while (block := await stream.read()) is not None:
            assert block.raw
            before += block.raw
            if block.content:
                stream.commit()
                break
        while (block := await stream.read()) is not None:
            after += block.raw
    except ClientError as error:
        return before, after, error
    return before, after, None


async def failure(*pieces, **options):
    """The error of a stream that fails before its first content."""
    before, after, error = await heard(opened(*pieces, **options))
    assert (after, error is None) == (b"", False)
    assert HEL not in before
    return error


async def failure_after(*pieces, **options):
    """The error of a stream that says "Hel" first; what came with it was told."""
    before, after, error = await heard(opened(HEL, *pieces, **options))
    assert (before, after) == (HEL, b"")
    assert error is not None
    return error
