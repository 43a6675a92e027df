"""Streams that fail after their first content: nobody can take over, and the caller is told."""

import pytest

from standby.demo.faults import FaultServer, Stream, Wait, chat_event
from standby.store import Failed
from tests.faults.conftest import PATIENCE_SECONDS
from tests.faults.hearing import BACKUP, DONE, HELLO, ROLE, STOP, did, hear

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("pieces", "ending", "outcome"),
    [
        ([chat_event(error={"message": "It broke.", "type": "server_error"}), DONE], "complete", "provider_5xx"),
        ([b'event: error\ndata: {"message": "x", "code": 429}\n\n', DONE], "complete", "rate_limit"),
        ([], "complete", "stream_error"),
        ([], "close", "stream_error"),
        ([], "reset", "stream_error"),
        ([], "hang", "stream_error"),
        ([b"data: " + b"x" * 9_000_000], "hang", "client_error"),
    ],
    ids=["error", "named error", "end", "close", "reset", "hang", "huge"],
)
async def test_after_the_first_content(open_runner, pieces, ending, outcome):
    """Nobody can take over: the caller is told, with what it has had; silence is cut by `idleSeconds`."""
    had_content = False

    class Broken:
        def steps(self):
            steps = Stream([ROLE, HELLO, 0.0, *pieces], ending=ending).steps()
            for step in steps:
                while isinstance(step, Wait) and not had_content:
                    yield Wait(0.001)
                yield step

    def at_first():
        nonlocal had_content
        had_content = True

    async with FaultServer(Broken()) as primary, FaultServer(BACKUP) as backup:
        timeouts = {"idleSeconds": 0.2 if outcome == "stream_error" and ending == "hang" else PATIENCE_SECONDS}
        async with open_runner(primary.url, backup.url, timeouts=timeouts) as runner:
            heard = await hear(runner, at_first=at_first)
            assert (heard.text, heard.interrupted.partial, heard.record.ending) == ("Hello", "Hello", "interrupted")
            assert did(heard.record) == [("primary", outcome)]
            assert isinstance(heard.record.tries[0].effects[0], Failed)
            if ending == "hang":
                await primary.until_open_connections(0)
    assert backup.requests == 0


async def test_health_hears_of_a_break(open_runner):
    """A candidate whose streams break is left out, though each of them had content."""
    broken = Stream([ROLE, HELLO])
    async with FaultServer(broken) as primary, FaultServer(BACKUP) as backup:
        policy = {"failoverPolicy": {"ejectAfter": 2}}
        async with open_runner(primary.url, backup.url, policy=policy) as runner:
            for _ in range(2):
                assert (await hear(runner)).interrupted is not None
            assert (await hear(runner)).text == "I am the backup"


async def test_silence_after_the_answer(open_runner):
    """A server that has finished and does not hang up has answered."""
    async with FaultServer(Stream([ROLE, HELLO, STOP], ending="hang")) as server:
        async with open_runner(server.url, timeouts={"idleSeconds": 0.2}) as runner:
            heard = await hear(runner)
            assert (heard.text, heard.interrupted, heard.record.ending) == ("Hello", None, "answered")
            await server.until_open_connections(0)
