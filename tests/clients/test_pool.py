"""One bound on all calls, and on the size of every answer."""

import gzip
import ssl

import anyio
import httpx
import pytest
from pydantic import SecretStr

from standby.clients import ClientError, HttpPool
from standby.clients._http import seal

pytestmark = pytest.mark.anyio

URL = "http://provider.test/v1/x"
NOTHING = seal({})


class Pieces(httpx.AsyncByteStream):
    def __init__(self, *pieces):
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self):
        for piece in self.pieces:
            yield piece

    async def aclose(self):
        self.closed = True


def answering(*pieces, status=200, headers=None):
    return httpx.MockTransport(lambda request: httpx.Response(status, headers=headers, stream=Pieces(*pieces)))


class Held(httpx.AsyncBaseTransport):
    """Answers when it is told to."""

    def __init__(self):
        self.go = anyio.Event()
        self.asked = 0

    async def handle_async_request(self, request):
        self.asked += 1
        await self.go.wait()
        return httpx.Response(200, stream=Pieces(b"{}"))


async def test_call():
    """A call gives the status, the headers with names in lower case, and the whole body."""
    async with HttpPool(answering(b"he", b"", b"llo", status=418, headers={"X-A": "1"})) as pool:
        answer = await pool.call("POST", URL, NOTHING)
    assert (answer.status, answer.headers["x-a"], answer.content) == (418, "1", b"hello")


async def test_exchange():
    """A stream reads the same piece by piece, as it comes."""
    async with HttpPool(answering(b"he", b"llo")) as pool, pool.open("POST", URL, NOTHING) as exchange:
        assert exchange.status == 200
        assert [await exchange.read_some(), await exchange.read_some(), await exchange.read_some()] == [
            b"he",
            b"llo",
            b"",
        ]
    assert pool.in_use == 0


async def test_headers__repeated():
    """A header that comes twice is joined, as HTTP allows."""
    async with HttpPool(answering(headers=[("via", "a"), ("Via", "b")])) as pool:
        assert (await pool.call("POST", URL, NOTHING)).headers["via"] == "a, b"


async def test_gzip():
    """A compressed body is decompressed, in whatever pieces it comes."""
    content = gzip.compress(b"hello " * 1000)
    pieces = [content[start : start + 7] for start in range(0, len(content), 7)]
    async with HttpPool(answering(*pieces, headers={"content-encoding": "gzip"})) as pool:
        assert (await pool.call("POST", URL, NOTHING)).content == b"hello " * 1000


async def test_gzip__members():
    """Several compressed parts in a row are one body."""
    content = gzip.compress(b"he") + gzip.compress(b"llo") + b"\0\0"
    async with HttpPool(answering(content, headers={"content-encoding": "gzip"})) as pool:
        assert (await pool.call("POST", URL, NOTHING)).content == b"hello"


async def test_gzip__empty():
    """No body at all is not a cut one."""
    async with HttpPool(answering(headers={"content-encoding": "gzip"}, status=204)) as pool:
        assert (await pool.call("POST", URL, NOTHING)).content == b""


@pytest.mark.parametrize("content", [gzip.compress(b"hello " * 1000)[:-12], b"not gzip at all"], ids=["cut", "none"])
async def test_gzip__cut(content):
    """A compressed body that is cut, or none, is bad framing: `network` with the answer's status."""
    async with HttpPool(answering(content, headers={"content-encoding": "gzip", "x-request-id": "r1"})) as pool:
        with pytest.raises(ClientError) as caught:
            await pool.call("POST", URL, NOTHING)
    error = caught.value
    assert (error.code, error.status, error.work, error.request_id) == ("network", 200, "unknown", "r1")


async def test_encoding_not_asked_for():
    """An encoding that was not asked for cannot be read."""
    async with HttpPool(answering(b"x", headers={"content-encoding": "br"})) as pool:
        with pytest.raises(ClientError, match="'br'") as caught:
            await pool.call("POST", URL, NOTHING)
    assert (caught.value.code, caught.value.work) == ("invalid_response", "billed")
    assert pool.in_use == 0


@pytest.mark.parametrize("pieces", [[b"x" * 101], [b"x"] * 101, [b"x" * 100, b"y"]])
async def test_max_answer_bytes(pieces):
    """An answer larger than the bound is given up, and its connection with it."""
    async with HttpPool(answering(*pieces), max_answer_bytes=100) as pool:
        with pytest.raises(ClientError, match="larger than 100 bytes") as caught:
            await pool.call("POST", URL, NOTHING)
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("invalid_response", 200, True)
    assert pool.in_use == 0


async def test_max_answer_bytes__just_so():
    """One that is as large as the bound is fine."""
    async with HttpPool(answering(b"x" * 60, b"x" * 40), max_answer_bytes=100) as pool:
        assert len((await pool.call("POST", URL, NOTHING)).content) == 100


async def test_max_answer_bytes__bomb():
    """What counts is the size after decompression."""
    bomb = gzip.compress(b"\0" * 10_000_000)
    async with HttpPool(answering(bomb, headers={"content-encoding": "gzip"}), max_answer_bytes=100_000) as pool:
        with pytest.raises(ClientError, match="larger"):
            await pool.call("POST", URL, NOTHING)


async def test_max_header_bytes():
    """The same holds for an answer's headers."""
    async with HttpPool(answering(b"{}", headers={"x": "y" * 500}), max_header_bytes=400) as pool:
        with pytest.raises(ClientError, match="headers are larger than 400 bytes") as caught:
            await pool.call("POST", URL, NOTHING)
    assert caught.value.code == "invalid_response"


async def test_pool_timeout():
    """A call that finds no place in time was never sent, and no provider is to blame."""
    held = Held()
    async with HttpPool(held, max_connections=1, pool_seconds=0.01) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(pool.call, "POST", URL, NOTHING)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ClientError) as caught:
            await pool.call("POST", URL, NOTHING)
        held.go.set()
    error = caught.value
    assert (error.code, error.status, error.retryable) == ("pool_timeout", 0, True)
    assert (error.scope, error.work) == ("local", "not_sent")
    assert held.asked == 1


async def test_places__in_order():
    """Calls that wait for a place get it in the order in which they came."""
    held, done = Held(), []
    async with HttpPool(held, max_connections=1) as pool, anyio.create_task_group() as tasks:

        async def call(number):
            await pool.call("POST", URL, NOTHING)
            done.append(number)

        for number in range(5):
            tasks.start_soon(call, number)
            await anyio.wait_all_tasks_blocked()
        assert held.asked == 1
        held.go.set()
    assert done == [0, 1, 2, 3, 4]


async def test_places__cancelled_while_waiting():
    """A call cancelled while it waits for a place takes none."""
    held = Held()
    async with HttpPool(held, max_connections=1) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(pool.call, "POST", URL, NOTHING)
        await anyio.wait_all_tasks_blocked()
        for _ in range(20):
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(pool.call, "POST", URL, NOTHING)
                await anyio.wait_all_tasks_blocked()
                cancelled.cancel_scope.cancel()
        assert pool.in_use == 1
        held.go.set()
        await pool.call("POST", URL, NOTHING)
    assert pool.in_use == 0


async def test_connect_seconds():
    """A client may have its own patience for connections; the other clocks are the pool's."""
    seen = []

    def answer(request):
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, stream=Pieces())

    async with HttpPool(httpx.MockTransport(answer), connect_seconds=3.0, read_seconds=60.0) as pool:
        await pool.call("POST", URL, NOTHING)
        await pool.call("POST", URL, NOTHING, connect_seconds=1.0)
    assert [times["connect"] for times in seen] == [3.0, 1.0]
    assert {times["read"] for times in seen} == {60.0}


async def test_closed():
    """After the end no call is sent."""
    pool = HttpPool(answering())
    await pool.aclose()
    with pytest.raises(ClientError) as caught:
        await pool.call("POST", URL, NOTHING)
    assert (caught.value.code, caught.value.scope, caught.value.retryable) == ("client_closed", "local", False)


async def test_host_client():
    """The host's client is used and stays open; its authentication, cookies and redirects are not ours."""
    seen = []

    def answer(request):
        seen.append(request.headers)
        return httpx.Response(302, headers={"location": "http://elsewhere.test/", "set-cookie": "a=b"})

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), auth=("user", "password"), cookies={"c": "d"}, follow_redirects=True
    ) as host:
        async with HttpPool(host) as pool:
            for _ in range(2):
                answer_ = await pool.call("POST", URL, seal({"authorization": SecretStr("Bearer key-123")}))
                assert answer_.status == 302
        assert not host.is_closed
    assert [headers["authorization"] for headers in seen] == ["Bearer key-123"] * 2
    assert not any("cookie" in headers for headers in seen)


async def test_host_client__closed():
    """A host that closed its client has itself to blame."""
    host = httpx.AsyncClient(transport=answering())
    await host.aclose()
    async with HttpPool(host) as pool:
        with pytest.raises(ClientError) as caught:
            await pool.call("POST", URL, NOTHING)
    assert (caught.value.code, caught.value.scope, caught.value.retryable) == ("client_error", "local", False)


async def test_headers__that_cannot_be_sent():
    """A caller's header that HTTP cannot carry is refused before a library sees it, and its value is not quoted."""
    async with HttpPool(answering()) as pool:
        with pytest.raises(ClientError, match="'x-a'") as caught:
            await pool.call("POST", URL, NOTHING, headers={"x-a": "secret\r\nx-b: 1"})
    assert (caught.value.code, caught.value.work, caught.value.scope) == ("invalid_request", "not_sent", "request")
    assert "secret" not in str(caught.value)


def test_seal__that_cannot_be_sent():
    """The same for the operator's, at once."""
    with pytest.raises(ValueError, match="authorization") as caught:
        seal({}, bearer=SecretStr("secret\nkey"))
    assert "secret" not in str(caught.value)


def test_seal__is_closed():
    """What is sealed shows nothing."""
    sealed = seal({"x-a": SecretStr("hunter2-hunter2")}, bearer=SecretStr("key-123456"))
    assert "hunter2" not in f"{sealed} {sealed!r}"
    assert sealed.scrubbed("the key key-123456 and hunter2-hunter2") == "the key [redacted] and [redacted]"


def test_ssl_context__must_verify():
    """Certificates are always verified."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="verify"):
        HttpPool(ssl_context=context)


async def test_max_connections():
    """Left out, it is no more than the host's own client allows, so that nothing waits inside of that."""
    async with httpx.AsyncClient() as host:
        assert (HttpPool().max_connections, HttpPool(host).max_connections) == (1000, 100)


def test_max_connections__none():
    """A pool without connections makes no sense."""
    with pytest.raises(ValueError, match="max_connections"):
        HttpPool(max_connections=0)
