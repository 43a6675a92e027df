"""Callers that leave their streams, and callers that are slow: nothing is kept for them."""

import tracemalloc
from itertools import count

import anyio
import pytest

from standby.demo.faults import FaultServer, Stream, Wait, chat_events
from standby.runner import Request
from tests.faults.hearing import BACKUP, HELLO, ROLE, did, hear, text_in

pytestmark = pytest.mark.anyio


# -- callers that leave


async def test_caller_leaves(open_runner):
    """A caller that breaks off closes the provider's connection; nobody's health changes."""
    async with FaultServer(Stream([ROLE, HELLO], ending="hang")) as server:
        async with open_runner(server.url, policy={"failoverPolicy": {"ejectAfter": 1}}) as runner:
            async with runner.stream(Request("chat", {"messages": []})) as stream:
                async for chunk in stream:
                    if text_in(chunk.data):
                        break
                assert server.open_connections == 1
            await server.until_open_connections(0)
            assert (stream.record.ending, runner.state.standings()) == ("abandoned", {})


@pytest.mark.parametrize("said", [[], [ROLE], [ROLE, HELLO]], ids=["nothing", "role", "content"])
async def test_caller_is_cancelled(open_runner, said):
    """So does one that is cancelled, before the first content and after it."""
    async with FaultServer(Stream(said, ending="hang")) as server, open_runner(server.url) as runner:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear, runner)
            await server.until_requests(1)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await server.until_open_connections(0)


# -- callers that are slow


class Endless:
    """A stream that never ends; it counts what it could send."""

    def __init__(self, text="x" * 2000):
        self.sent = 0
        self._event = chat_events(text)[1]

    def steps(self):
        for step in Stream(self._event for _ in count()).steps():
            self.sent += len(step.content)
            yield step
            if self.sent // 1_000_000 != (self.sent - len(step.content)) // 1_000_000:
                yield Wait(0.0)

    async def until_held_back(self):
        """Return when nothing more can be sent."""
        before = -1
        while self.sent != before:
            before = self.sent
            for _ in range(100):
                await anyio.lowlevel.checkpoint()


async def test_slow_reader(open_runner):
    """What the caller does not read the provider cannot send: nothing is kept for it but what sockets hold."""
    endless = Endless()
    async with FaultServer(endless) as server, open_runner(server.url) as runner:
        async with runner.stream(Request("chat", {"messages": []})) as stream:
            for _ in range(3):
                await stream.read()
                await endless.until_held_back()
                assert endless.sent < 32_000_000
            read = 0
            while read < 40_000_000:
                read += len((await stream.read()).raw)
            assert endless.sent > 40_000_000
        await server.until_open_connections(0)


async def test_memory(open_runner):
    """A stream takes as much memory as it did at its beginning, however long it is."""
    async with FaultServer(Endless()) as server, open_runner(server.url) as runner:
        async with runner.stream(Request("chat", {"messages": []})) as stream:
            tracemalloc.start()
            try:
                read = 0
                while read < 20_000_000:
                    read += len((await stream.read()).raw)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        await server.until_open_connections(0)
    assert peak < 4_000_000


async def test_memory__before_the_first_content(open_runner):
    """Nor does a flood without content fill it: the candidate is given up."""
    flood = Stream(piece for _ in count() for piece in (ROLE * 100, b": ping\n\n" * 1000))
    async with FaultServer([flood, BACKUP]) as server, open_runner(server.url, server.url) as runner:
        heard = await hear(runner)
    assert (heard.text, did(heard.record)) == ("I am the backup", [("primary", "client_error"), ("backup", "ok")])
