"""Every way in which a network fails, on real sockets, over both libraries."""

import ssl

import anyio
import pytest
import trustme

from standby.clients import ClientError, HttpPool, OpenAIClient, Request
from standby.demo.faults import (
    Answer,
    Close,
    FaultServer,
    Hang,
    Raw,
    Reset,
    chat_answer,
    error_answer,
    refused_port,
)

pytestmark = pytest.mark.anyio

HELLO = chat_answer("Hello.")
IN_THE_HEAD = 10
IN_THE_BODY = len(HELLO.head) + 10


async def failure(ask, pool, url):
    with pytest.raises(ClientError) as caught:
        await ask(pool, url)
    error = caught.value
    assert error.__cause__ is not None
    return error.code, error.status, error.work


@pytest.fixture
def certificates():
    """An authority of our own, and a server's certificate from it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_answer(open_pool, ask):
    """A server that does nothing wrong is answered from; calls in a row share a connection."""
    async with FaultServer(HELLO) as server, open_pool() as pool:
        for _ in range(5):
            response = await ask(pool, server.url)
            assert response.data["choices"][0]["message"]["content"] == "Hello."
        assert (server.requests, server.connections) == (5, 1)
        seen = server.received[0]
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.headers["authorization"] == "Bearer sk-test-0123456789"
    assert "cookie" not in seen.headers


async def test_refused(open_pool, ask):
    """A port where nobody listens."""
    with refused_port() as port:
        async with open_pool() as pool:
            assert await failure(ask, pool, f"http://127.0.0.1:{port}") == ("network", 0, "not_sent")


async def test_no_such_name(open_pool, ask):
    """A name that nobody knows."""
    async with open_pool(connect_seconds=60.0) as pool:  # a resolver may take its time to say so
        assert await failure(ask, pool, "http://nonexistent.invalid") == ("network", 0, "not_sent")


async def test_tls__not_spoken(open_pool, ask):
    """A server that does not speak TLS."""
    async with FaultServer(HELLO) as server, open_pool() as pool:
        url = server.url.replace("http:", "https:")
        assert await failure(ask, pool, url) == ("network", 0, "not_sent")


async def test_tls__unknown_authority(open_pool, ask, certificates):
    """A certificate that nobody vouches for."""
    async with FaultServer(HELLO, ssl_context=certificates[0]) as server, open_pool() as pool:
        assert await failure(ask, pool, server.url) == ("network", 0, "not_sent")


async def test_tls__other_name(open_pool, ask, certificates):
    """A certificate for another name."""
    server_side, client_side = certificates
    async with FaultServer(HELLO, ssl_context=server_side) as server, open_pool(ssl_context=client_side) as pool:
        url = server.url.replace("127.0.0.1", "localhost")
        assert await failure(ask, pool, url) == ("network", 0, "not_sent")


async def test_tls(open_pool, ask, certificates):
    """A certificate of an authority that the operator trusts."""
    server_side, client_side = certificates
    async with FaultServer(HELLO, ssl_context=server_side) as server, open_pool(ssl_context=client_side) as pool:
        assert (await ask(pool, server.url)).status == 200


async def test_connect_timeout(open_pool, ask):
    """A connection that is not made in time: a server whose queue is full says nothing at all."""
    with anyio.fail_after(10):
        async with (
            open_pool(connect_seconds=0.05) as pool,
            await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0, backlog=0) as listener,
        ):
            address = listener.extra(anyio.abc.SocketAttribute.local_address)
            async with await anyio.connect_tcp(*address):  # fills the queue: nobody accepts
                assert await failure(ask, pool, f"http://127.0.0.1:{address[1]}") == ("timeout", 0, "not_sent")


@pytest.mark.parametrize(("after_bytes", "status"), [(0, 0), (IN_THE_HEAD, 0), (IN_THE_BODY, 200)])
async def test_hang(open_pool, ask, after_bytes, status):
    """A server that accepts and says nothing, or nothing more: the read clock, where one is set."""
    async with FaultServer(Hang(after_bytes, HELLO)) as server, open_pool(read_seconds=0.2) as pool:
        assert await failure(ask, pool, server.url) == ("timeout", status, "unknown")


@pytest.mark.parametrize("after_bytes", [0, IN_THE_HEAD, IN_THE_BODY])
async def test_hang__cancelled(open_pool, ask, after_bytes):
    """Where no clock is set the caller's cancellation ends it, and the connection with it."""
    async with FaultServer(Hang(after_bytes, HELLO)) as server, open_pool() as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, pool, server.url)
            await server.until_requests(1)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await server.until_open_connections(0)
        assert pool.in_use == 0


@pytest.mark.parametrize(("after_bytes", "status"), [(0, 0), (IN_THE_HEAD, 0), (IN_THE_BODY, 200)])
async def test_reset(open_pool, ask, after_bytes, status):
    """A connection that is reset before or in the middle of the answer."""
    async with FaultServer(Reset(after_bytes, HELLO)) as server, open_pool() as pool:
        code, told, work = await failure(ask, pool, server.url)
    # What was sent just before a reset may be lost with it.
    assert (code, work) == ("network", "unknown")
    assert told in {0, status}


@pytest.mark.parametrize(("after_bytes", "status"), [(0, 0), (IN_THE_HEAD, 0), (IN_THE_BODY, 200)])
async def test_close(open_pool, ask, after_bytes, status):
    """A connection that is closed before or in the middle of the answer."""
    async with FaultServer(Close(after_bytes, HELLO)) as server, open_pool() as pool:
        assert await failure(ask, pool, server.url) == ("network", status, "unknown")


async def test_slow_head(open_pool, ask):
    """A head that comes in small pieces is a head."""
    slow = chat_answer("Hello.", slice_bytes=16, slice_seconds=0.001)
    async with FaultServer(slow) as server, open_pool() as pool:
        assert (await ask(pool, server.url)).status == 200


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff\xfe garbage \r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 two hundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n{}\r\n0\r\n\r\n",
    ],
)
async def test_garbage(open_pool, ask, content):
    """An answer that is not HTTP."""
    async with FaultServer(Raw(content)) as server, open_pool() as pool:
        code, _, work = await failure(ask, pool, server.url)
    assert (code, work) == ("network", "unknown")


async def test_content_length__too_large(open_pool, ask):
    """An answer that is shorter than it says."""
    answer = chat_answer("Hello.", headers={"content-length": "5000"})
    async with FaultServer(Close(len(answer.wire), answer)) as server, open_pool() as pool:
        assert await failure(ask, pool, server.url) == ("network", 200, "unknown")


async def test_content_length__too_small(open_pool, ask):
    """One that is longer than it says: bad framing where the library notices, else it is cut, and that is no JSON.

    What is left over spoils the connection: the next call may fail of it, but never takes it for its answer.
    """
    answer = chat_answer("Hello.", headers={"content-length": "20"})
    async with FaultServer([answer, HELLO]) as server, open_pool() as pool:
        assert (await failure(ask, pool, server.url))[0] in {"invalid_response", "network"}
        try:
            assert (await ask(pool, server.url)).status == 200
        except ClientError as error:
            assert (error.code, error.retryable) == ("network", True)  # noqa: PT017 - it need not fail
        assert (await ask(pool, server.url)).status == 200


@pytest.mark.parametrize("cut", [1, 9, 60])
async def test_gzip__cut(open_pool, ask, cut):
    """A compressed body that is cut, in framing that is right."""
    async with FaultServer(chat_answer("Hello.", gzip=True, cut_gzip_bytes=cut)) as server, open_pool() as pool:
        assert await failure(ask, pool, server.url) == ("network", 200, "unknown")


async def test_gzip__closed(open_pool, ask):
    """One whose connection is closed before its end."""
    answer = chat_answer("Hello.", gzip=True)
    async with FaultServer(Close(len(answer.wire) - 5, answer)) as server, open_pool() as pool:
        assert await failure(ask, pool, server.url) == ("network", 200, "unknown")


async def test_gzip(open_pool, ask):
    """A compressed answer, whole."""
    async with FaultServer(chat_answer("Hello.", gzip=True)) as server, open_pool() as pool:
        assert (await ask(pool, server.url)).status == 200


@pytest.mark.parametrize("short_by", [1, 5, 20])
async def test_chunked__cut(open_pool, ask, short_by):
    """A body in chunks that ends before its last chunk."""
    answer = chat_answer("Hello.", chunked=True)
    async with FaultServer(Close(len(answer.wire) - short_by, answer)) as server, open_pool() as pool:
        assert await failure(ask, pool, server.url) == ("network", 200, "unknown")


async def test_chunked(open_pool, ask):
    """A body in chunks, whole."""
    async with FaultServer(chat_answer("Hello. " * 1000, chunked=True)) as server, open_pool() as pool:
        assert (await ask(pool, server.url)).status == 200


async def test_redirect(open_pool, ask):
    """A redirect is not followed."""
    async with FaultServer(Answer(307, headers={"location": "/elsewhere"})) as server, open_pool() as pool:
        with pytest.raises(ClientError) as caught:
            await ask(pool, server.url)
        assert (caught.value.code, caught.value.status, server.requests) == ("invalid_response", 307, 1)


async def test_cookies(open_pool, ask):
    """A cookie is not kept: calls of different callers share the pool."""
    async with FaultServer(chat_answer("Hello.", headers={"set-cookie": "a=b; Path=/"})) as server, open_pool() as pool:
        for _ in range(2):
            await ask(pool, server.url)
        assert not any("cookie" in received.headers for received in server.received)


@pytest.mark.parametrize("size", [70_000, 300_000])
async def test_huge_header(open_pool, ask, size):
    """Headers beyond the bound, whether the library notices or we do."""
    answer = chat_answer("Hello.", headers={"x-huge": "y" * size})
    async with FaultServer(answer) as server, open_pool() as pool:
        with pytest.raises(ClientError) as caught:
            await ask(pool, server.url)
    assert (caught.value.code, caught.value.retryable) == ("invalid_response", True)


async def test_large_header(open_pool, ask):
    """Headers within the bound, though they be large."""
    async with FaultServer(chat_answer("Hello.", headers={"x-large": "y" * 40_000})) as server, open_pool() as pool:
        assert len((await ask(pool, server.url)).headers["x-large"]) == 40_000


async def test_large_bodies(open_pool):
    """Bodies of some megabytes, both ways."""

    def echoed(number, method, path, headers, body):
        return chat_answer(str(len(body)) + "x" * 3_000_000)

    async with FaultServer(echoed) as server, open_pool() as pool:
        client = OpenAIClient(base_url=server.url, http=pool)
        response = await client.send(Request(model="gpt", body={"input": "y" * 3_000_000}))
    assert response.data["choices"][0]["message"]["content"].startswith("30000")


async def test_too_large(open_pool, ask):
    """An answer beyond the bound is given up as soon as it is, and its connection closed."""
    async with FaultServer(chat_answer("x" * 1_000_000)) as server, open_pool(max_answer_bytes=100_000) as pool:
        with pytest.raises(ClientError, match="larger than 100000 bytes"):
            await ask(pool, server.url)
        await server.until_open_connections(0)


async def test_after_a_failure(open_pool, ask):
    """A failure leaves nothing behind: the next call is answered."""
    script = [Reset(0), Close(IN_THE_BODY, HELLO), Raw(b"garbage\r\n\r\n"), error_answer(503), HELLO]
    async with FaultServer(script) as server, open_pool(max_connections=1) as pool:
        for _ in script[:-1]:
            with pytest.raises(ClientError):
                await ask(pool, server.url)
        assert (await ask(pool, server.url)).status == 200
        assert pool.in_use == 0


async def test_server_closed_idle_connection(open_pool, ask):
    """A connection that the server closed while it was idle is not used again."""
    async with FaultServer(HELLO) as server, open_pool() as pool:
        await ask(pool, server.url)
        for connection in tuple(server.live):
            connection.abort()
        await server.until_open_connections(0)
        await anyio.wait_all_tasks_blocked()
        assert (await ask(pool, server.url)).status == 200


async def test_aclose(open_pool, ask):
    """To close the pool closes its connections."""
    async with FaultServer(HELLO) as server:
        async with open_pool() as pool:
            await ask(pool, server.url)
            assert server.open_connections == 1
        await server.until_open_connections(0)


async def test_proxy(ask, monkeypatch):
    """The environment's proxy is used, and `NO_PROXY` heeded."""
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with FaultServer(HELLO) as proxy, HttpPool() as pool:
        monkeypatch.setenv("http_proxy", proxy.url)
        await ask(pool, "http://provider.test")
        assert proxy.received[0].path == "http://provider.test/v1/chat/completions"
        monkeypatch.setenv("no_proxy", "provider.invalid")
        with pytest.raises(ClientError, match=r"Cannot connect|not known"):
            await ask(pool, "http://provider.invalid")
        assert proxy.requests == 1


async def test_proxy__refused(ask, monkeypatch):
    """A proxy that is not there is a network that is not there."""
    with refused_port() as port:
        monkeypatch.setenv("http_proxy", f"http://user:hunter2@127.0.0.1:{port}")
        async with HttpPool() as pool:
            with pytest.raises(ClientError) as caught:
                await ask(pool, "http://provider.test")
    assert (caught.value.code, caught.value.work) == ("network", "not_sent")
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (Hang(0), ("timeout", 0, "unknown")),
        (Reset(0), ("network", 0, "unknown")),
        (Close(IN_THE_HEAD, HELLO), ("network", 0, "unknown")),
        (Close(IN_THE_BODY, HELLO), ("network", 200, "unknown")),
        (Raw(b"garbage\r\n\r\n"), ("network", 0, "unknown")),
        (chat_answer("Hello.", gzip=True, cut_gzip_bytes=9), ("network", 200, "unknown")),
    ],
    ids=["hang", "reset", "head", "body", "garbage", "gzip"],
)
async def test_trio(ask, server_elsewhere, script, expected):
    """The same under trio, where httpx carries the calls."""
    with server_elsewhere(script) as server:
        async with HttpPool(read_seconds=0.1, trust_env=False) as pool:
            assert await failure(ask, pool, server.url) == expected


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio__refused(ask):
    """And a port where nobody listens."""
    with refused_port() as port:
        async with HttpPool(trust_env=False) as pool:
            assert await failure(ask, pool, f"http://127.0.0.1:{port}") == ("network", 0, "not_sent")
