"""A runner that fails over cancels all day: no place, no connection and no call may be lost by it."""

import random

import anyio
import pytest

from standby.demo.faults import FaultServer, Hang, chat_answer

pytestmark = pytest.mark.anyio

CONNECTIONS = 10
STORM_SECONDS = 5.0


async def test_storm_of_cancelled_calls(open_pool, ask):
    """After five seconds of cancelled calls against ten connections, ten calls can be made at once.

    This is what httpx 0.28's own limit does not survive: the calls that were cancelled while they waited in its pool
    keep their places for ever.
    """
    chance = random.Random(1)
    calm = False

    def script(number, method, path, headers, body):
        if calm:
            return chat_answer("Hello.", delay_seconds=0.05)
        hello = chat_answer("Hello.", delay_seconds=chance.choice([0.0, 0.001, 0.02]))
        return chance.choice([hello, hello, Hang(0), Hang(chance.randrange(400), hello)])

    async def cancelled_soon(pool, url):
        with anyio.move_on_after(chance.uniform(0.0, 0.1)):
            await ask(pool, url)

    async def stormy(pool, url):
        # On a busy machine few calls come as far as the server: it lasts until enough of them did.
        while anyio.current_time() < began + STORM_SECONDS or server.requests <= CONNECTIONS:
            await cancelled_soon(pool, url)

    async with FaultServer(script) as server, open_pool(max_connections=CONNECTIONS, pool_seconds=2.0) as pool:
        began = anyio.current_time()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(3 * CONNECTIONS):
                    tasks.start_soon(stormy, pool, server.url)
        assert pool.in_use == 0

        calm, before = True, server.requests
        answers = []

        async def answered():
            answers.append(await ask(pool, server.url))

        async with anyio.create_task_group() as tasks:
            for _ in range(CONNECTIONS):
                tasks.start_soon(answered)
            await server.until_requests(before + CONNECTIONS)  # all ten are under way before any is answered
            assert not answers
            assert pool.in_use == CONNECTIONS
        assert [answer.status for answer in answers] == [200] * CONNECTIONS
        assert server.open_connections <= CONNECTIONS
    assert server.open_connections == 0
