"""A stream whose provider is cut at every byte: failed over unseen, or broken off and told; never spliced."""

import json

import anyio
import pytest

from standby.demo.faults import End, FaultServer, Send, Stream, Wait
from standby.store import Failed
from tests.faults.conftest import CAPACITY
from tests.faults.hearing import BACKUP, REFERENCE, did, hear

pytestmark = pytest.mark.anyio

FIRST_CONTENT = 3
LAST_FINISH = 8
TEXTS = ["", "", "", "Hel", "Hel", "Hel", "Hello", "Hello", "Hello", "Hello"]


def came(framing, offset):
    """How much of the reference stream's body is in the first ``offset`` bytes of the answer."""
    left = offset - len(Stream([], framing).head)
    body = b""
    for piece in REFERENCE:
        frame = len(b"%x\r\n" % len(piece)) if framing == "chunked" else 0
        left -= frame
        body += piece[: max(0, left)]
        left -= len(piece) + (2 if frame else 0)
    return body


def expected(library, framing, how, offset):
    """What the caller has when the answer is cut there: who answers, and the text."""
    body = came(framing, offset)
    whole = sum(len(b"".join(REFERENCE[: place + 1])) <= len(body) for place in range(len(REFERENCE)))
    ends = [len(b"".join(REFERENCE[: place + 1])) for place in range(len(REFERENCE))]
    # Where the end of the connection is that of the body, the blank line after the event that ends it may be missing.
    # aiohttp takes a reset for such an end, too.
    orderly = framing == "close" and (how == "close" or library == "aiohttp")
    if whole > LAST_FINISH or (orderly and len(body) >= ends[LAST_FINISH] - 2):
        return "complete", "Hello"
    return ("interrupted", TEXTS[whole - 1]) if whole > FIRST_CONTENT else ("failed over", "I am the backup")


class Cut:
    """The reference stream up to an offset; it is cut at once, or when the caller has had what it can have."""

    def __init__(self, framing, how, offset, holds):
        self._content = Stream(REFERENCE, framing).wire[:offset]
        self._how = how
        self._holds = holds

    def steps(self):
        yield Send(self._content)
        while not self._holds():
            yield Wait(0.001)
        yield End(self._how)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_cut_at_every_byte(open_runner, library, framing, how):
    """Before the first content the backup answers, whole; after it the caller is told, with what it has had.

    A cut after the last choice's finish is none. Never are two answers spliced, and the primary's health hears of it.
    """
    had_content = set()
    size = len(Stream(REFERENCE, framing).wire)
    offsets = iter(range(0, size + 1, 1 if library == "aiohttp" else 7))

    def script(number, method, path, headers, body):
        if path.startswith("/backup"):
            return BACKUP
        offset = json.loads(body)["offset"]
        gated = expected(library, framing, how, offset)[0] != "failed over"
        # What was sent just before a reset may be lost with it: who is to have had content has had it before.
        return Cut(framing, how, offset, lambda: not gated or offset in had_content)

    wrong = []

    async def sweep(runner):
        for offset in offsets:
            heard = await hear(
                runner, {"offset": offset, "n": 2}, at_first=lambda offset=offset: had_content.add(offset)
            )
            record, broken = heard.record, heard.interrupted
            failed = record.tries[0].effects and isinstance(record.tries[0].effects[0], Failed)
            if record.candidate == "backup":
                came_to = ("failed over", heard.text)
                fine = failed and record.ending == "answered" and record.attempts == 2
            elif broken is not None:
                came_to = ("interrupted", heard.text)
                fine = failed and record.ending == "interrupted" and record.attempts == 1
                fine = (
                    fine and broken.partial == heard.text and record.tries[0].failure.info.code == "stream_read_error"
                )
            else:
                came_to = ("complete", heard.text)
                fine = not failed and record.ending == "answered" and record.attempts == 1
            if came_to != expected(library, framing, how, offset) or not fine:
                wrong.append((offset, came_to, expected(library, framing, how, offset), did(record)))

    async with FaultServer(script) as server:
        async with open_runner(f"{server.url}/primary", f"{server.url}/backup") as runner:
            async with anyio.create_task_group() as tasks:
                for _ in range(16):
                    tasks.start_soon(sweep, runner)
            await server.until_open_connections(CAPACITY)
    assert wrong == []
    assert next(offsets, None) is None
