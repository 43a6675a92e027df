"""Streams that fail before their first content: another candidate answers, and the caller hears nothing of it."""

import pytest

from standby.demo.faults import (
    Answer,
    Close,
    FaultServer,
    Hang,
    Raw,
    Reset,
    Stream,
    chat_answer,
    chat_event,
    chat_stream,
    error_answer,
    refused_port,
)
from standby.runner import RunFailed
from tests.faults.hearing import BACKUP, DONE, ROLE, SSE, STOP, did, hear

pytestmark = pytest.mark.anyio

PINGS = [piece for _ in range(100_000) for piece in (0.01, b": ping\n\n", ROLE)]
KEPT = {"rate_limit", "provider_5xx", "client_error", "stream_error", "provider_overloaded"}
"""Failures after which a connection may be used again."""


@pytest.mark.parametrize(
    ("broken", "outcome"),
    [
        (error_answer(503, "Down."), "provider_5xx"),
        (error_answer(429, "Slow down.", headers=SSE), "rate_limit"),
        (Reset(), "network"),
        (Close(), "network"),
        (Close(30, chat_stream("Hello")), "network"),
        (Raw(b"220 mail.example ESMTP\r\n"), "network"),
        (Stream([ROLE, chat_event(error={"message": "It broke.", "type": "server_error"}), DONE]), "provider_5xx"),
        (Stream([ROLE, b'event: error\ndata: {"message": "Overloaded"}\n\n']), "provider_overloaded"),
        (Stream([ROLE, b"data: {half a\n\n", STOP, DONE]), "client_error"),
        (Stream([ROLE, b"\x00\xff\xfe garbage \r\n\r\n" * 100]), "stream_error"),
        (Stream([b"<html>Sign in</html>"], framing="close"), "stream_error"),
        (Stream([ROLE, STOP, DONE]), "client_error"),
        (Stream([ROLE]), "stream_error"),
        (Stream([], framing="close"), "stream_error"),
        (Stream([ROLE], ending="reset"), "network"),
        (Stream([b"not a size"], framing="close", headers={"transfer-encoding": "chunked"}), "network"),
        (chat_answer("Hello"), "client_error"),
        (Answer(body=ROLE, headers=SSE, gzip=True, cut_gzip_bytes=9), "stream_error"),
        (Stream([ROLE], ending="hang"), "timeout"),
        (Stream([], ending="hang"), "timeout"),
        (Hang(), "timeout"),
        (Stream(PINGS), "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_before_the_first_content(open_runner, broken, outcome):
    """Whatever fails fails over, and the caller hears nothing of it; silence is cut by `firstTokenSeconds`."""
    async with FaultServer(broken) as primary, FaultServer(BACKUP) as backup:
        timeouts = {"firstTokenSeconds": 0.2} if outcome == "timeout" else None
        async with open_runner(primary.url, backup.url, timeouts=timeouts) as runner:
            heard = await hear(runner)
            assert (heard.text, heard.interrupted) == ("I am the backup", None)
            tried = heard.record.tries[0]
            # Whether a head that comes with what breaks it is seen is the library's business.
            assert tried.outcome in ({"network", "stream_error"} if outcome == "network" else {outcome})
            assert outcome != "timeout" or tried.failure.info.message.endswith("(firstTokenSeconds)")
            await primary.until_open_connections(1 if primary.requests and outcome in KEPT else 0)


async def test_nobody_listens(open_runner):
    """So does a port that refuses."""
    with refused_port() as port:
        async with FaultServer(BACKUP) as backup, open_runner(f"http://127.0.0.1:{port}", backup.url) as runner:
            assert did((await hear(runner)).record) == [("primary", "network"), ("backup", "ok")]


async def test_nobody_answers(open_runner):
    """Where all fail the run fails, before there is a stream."""
    async with FaultServer([Stream([ROLE]), error_answer(500)]) as server:
        async with open_runner(server.url, server.url) as runner:
            with pytest.raises(RunFailed) as caught:
                await hear(runner)
    assert did(caught.value.record) == [("primary", "stream_error"), ("backup", "provider_5xx")]
