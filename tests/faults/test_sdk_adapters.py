"""A user's own SDK client on real sockets: what fails is what would fail on ours, and nothing stays open."""

import anthropic
import anyio
import openai
import pytest

from standby.clients import ClientError, HttpPool, OpenAIClient, Request, adapt
from standby.demo.faults import (
    Answer,
    Close,
    FaultServer,
    Hang,
    Raw,
    Reset,
    chat_answer,
    chat_stream,
    error_answer,
    refused_port,
)

pytestmark = pytest.mark.anyio

HELLO = chat_answer("Hello.")
ASKED = Request("gpt", {"messages": [{"role": "user", "content": "Hi"}]})
IN_THE_HEAD = 10
IN_THE_BODY = len(HELLO.head) + 10


def sdk_at(url):
    return openai.AsyncOpenAI(api_key="sk-test-0123456789", base_url=f"{url}/v1", max_retries=5)


async def failure(client):
    with pytest.raises(ClientError) as caught:
        await client.send(ASKED)
    error = caught.value
    return error.code, error.status, error.retryable, error.scope, error.work


@pytest.mark.parametrize(
    "behaviour",
    [
        Close(0, HELLO),
        Close(IN_THE_HEAD, HELLO),
        Close(IN_THE_BODY, HELLO),
        Reset(0, HELLO),
        Raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
        Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n{}\r\n0\r\n\r\n"),
        chat_answer("Hello.", gzip=True, cut_gzip_bytes=9),
        chat_answer("Hello.", headers={"x-huge": "y" * 300_000}),
        Answer(307, headers={"location": "/elsewhere"}),
        error_answer(429, "slow down"),
        error_answer(503, "go away"),
    ],
    ids=lambda behaviour: f"{type(behaviour).__name__}",
)
async def test_failure(behaviour):
    """A failure is the same one as over our own HTTP, asked for once, and leaves nothing behind."""
    async with FaultServer([behaviour, behaviour, HELLO]) as server:
        async with HttpPool(library="httpx") as pool:
            there = await failure(OpenAIClient(base_url=f"{server.url}/v1", http=pool))
        async with sdk_at(server.url) as sdk:
            client = adapt(sdk, max_connections=1)
            assert await failure(client) == there
            assert server.requests == 2
            assert (await client.send(ASKED)).status == 200


async def test_refused():
    """A port where nobody listens."""
    with refused_port() as port:
        async with sdk_at(f"http://127.0.0.1:{port}") as sdk:
            assert await failure(adapt(sdk)) == ("network", 0, True, "candidate", "not_sent")


async def test_connections():
    """Calls in a row share the SDK's connection, streams too."""
    async with FaultServer([HELLO, chat_stream("Hel", "lo."), error_answer(429), HELLO]) as server:
        async with sdk_at(server.url) as sdk:
            client = adapt(sdk)
            await client.send(ASKED)
            async with client.stream(ASKED) as stream:
                while await stream.read() is not None:
                    pass
            await failure(client)
            await client.send(ASKED)
            assert (server.requests, server.connections) == (4, 1)


async def send(client):
    await client.send(ASKED)


async def read(client):
    async with client.stream(ASKED) as stream:
        while await stream.read() is not None:
            pass


FAILED = error_answer(500, "oops " * 100)


@pytest.mark.parametrize(
    ("call", "behaviour"),
    [
        (send, Hang(0)),
        (send, Hang(IN_THE_HEAD, HELLO)),
        (send, Hang(IN_THE_BODY, HELLO)),
        (send, Hang(len(FAILED.head) + 10, FAILED)),
        (read, Hang(0)),
        (read, Hang(300, chat_stream("Hel", "lo."))),
        (read, Hang(len(FAILED.head) + 10, FAILED)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_cancelled(call, behaviour):
    """A call that is cancelled closes its connection at once, wherever it was, and the next one is answered."""
    async with FaultServer([behaviour, HELLO]) as server, sdk_at(server.url) as sdk:
        client = adapt(sdk, max_connections=1)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, client)
                await server.until_requests(1)
                await anyio.wait_all_tasks_blocked()
                assert server.open_connections == 1
                tasks.cancel_scope.cancel()
            await server.until_open_connections(0)
            assert (await client.send(ASKED)).status == 200


@pytest.mark.parametrize("behaviour", [Hang(0), Hang(IN_THE_BODY, HELLO), Hang(len(FAILED.head) + 10, FAILED)])
async def test_cancelled__anthropic(behaviour):
    """Anthropic's SDK lets go of its connection as well."""
    async with (
        FaultServer([behaviour, error_answer(500)]) as server,
        anthropic.AsyncAnthropic(api_key="sk-test-0123456789", base_url=server.url, max_retries=5) as sdk,
    ):
        client = adapt(sdk, max_connections=1)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send, client)
                await server.until_requests(1)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            await server.until_open_connections(0)
            assert await failure(client) == ("server_error", 500, True, "candidate", "unknown")
        assert server.requests == 2


async def test_cancelled__many():
    """A hundred calls that are cancelled while they wait for a connection take no place for ever."""
    async with FaultServer(lambda number, *_: Hang(0) if number <= 4 else HELLO) as server, sdk_at(server.url) as sdk:
        client = adapt(sdk, max_connections=4)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(send, client)
                await server.until_requests(4)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            await server.until_open_connections(0)
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(send, client)
        assert server.requests == 12


async def test_left_early():
    """A stream that its reader leaves closes its connection."""
    events = chat_stream("Hel", "lo.")
    async with FaultServer(Hang(400, events)) as server, sdk_at(server.url) as sdk:
        with anyio.fail_after(30):
            async with adapt(sdk).stream(ASKED) as stream:
                assert await stream.read() is not None
                assert server.open_connections == 1
            await server.until_open_connections(0)


async def test_too_large():
    """An answer beyond the bound is given up as soon as it is, and its connection closed."""
    async with FaultServer(chat_answer("x" * 1_000_000)) as server, sdk_at(server.url) as sdk:
        client = adapt(sdk)
        client._pool.max_answer_bytes = 100_000
        with pytest.raises(ClientError, match="larger than 100000 bytes"):
            await client.send(ASKED)
        await server.until_open_connections(0)
