"""How the server ends, and what it does while it runs: signals, cancellation, reloads."""

import asyncio
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import yaml

from standby.demo.faults import FaultServer, Hang, Stream, Wait, chat_events
from standby.proxy import serve
from tests.proxy.listening import CHAT, HELLO, PATIENCE_SECONDS, document, served

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Whatever the machine says, everything here is on loopback."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_cancelled():
    """A host that cancels the server cancels what is under way: the provider's call is over, the port is free."""
    async with served(Hang()) as gateway:
        asking = asyncio.create_task(gateway.chat())
        await gateway.provider.until_requests(1)
        gateway.task.cancel()
        assert isinstance((await asyncio.gather(gateway.task, return_exceptions=True))[0], asyncio.CancelledError)
        [record] = await gateway.runner.history.newest()
        await gateway.provider.until_open_connections(0)
        await asyncio.gather(asking, return_exceptions=True)
        with pytest.raises(httpx.ConnectError):
            await gateway.chat()
    assert record["ending"] == "abandoned"


async def test_interrupted_twice(caplog):
    """The first SIGINT lets what is under way end, the second does not wait for it: whoever waits is told, and we are."""
    caplog.set_level("INFO", "standby.proxy")
    async with served(Hang()) as gateway:
        asking = asyncio.create_task(gateway.chat())
        await gateway.provider.until_requests(1)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        await gateway.task
        [record] = await gateway.runner.history.newest()
        await gateway.provider.until_open_connections(0)
        answer = await asking
    assert record["ending"] == "abandoned"
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
    assert [each.getMessage() for each in caplog.records] == [
        "stopping; calls under way: 1, which have 600 s to end, and a second Ctrl-C cuts them"
    ]


async def test_a_stream_that_is_cut_ends_with_an_error(caplog):
    """It is not ended as if it were complete."""
    async with served(Stream(chat_events("Hello.")[:-1], ending="hang")) as gateway:
        body = CHAT.replace(b"{", b'{"stream": true, ', 1)
        async with gateway.http.stream("POST", "/v1/chat/completions", content=body) as answer:
            told = answer.aiter_text()
            heard = await anext(told)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            heard += "".join([part async for part in told])
        await gateway.task
    last = [line for line in heard.splitlines() if line][-1]
    assert "Hello." in heard
    assert last.startswith('data: {"error":')
    assert caplog.records == []


async def test_signals_are_given_back():
    """Afterwards a signal does what it did before."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with served(HELLO) as gateway:
        assert signal.getsignal(signal.SIGTERM) != before[0]
        await gateway.chat()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@asynccontextmanager
async def command(config):
    """`standby serve` in a process of its own; its first line is where it listens."""
    code = "from standby.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "serve", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        line = (await process.stdout.readline()).decode()
        assert line.startswith("listening on http://127.0.0.1:"), line + (await process.stderr.read()).decode()
        yield process, line.removeprefix("listening on ").strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@dataclass
class Held:
    """Answers when it is let go."""

    release: asyncio.Event

    def steps(self):
        while not self.release.is_set():
            yield Wait(0.02)
        yield from HELLO.steps()


async def test_terminated(tmp_path):
    """SIGTERM: no new connections, what is under way is answered, the store is closed, and the exit code is 0."""
    release = asyncio.Event()
    config = tmp_path / "gateway.yaml"
    async with FaultServer(Held(release)) as provider, asyncio.timeout(PATIENCE_SECONDS):
        raw = document({"primary": provider.url}, server={"port": 0}, store={"url": f"sqlite:///{tmp_path}/standby.db"})
        config.write_text(yaml.safe_dump(raw))
        async with command(config) as (process, url):
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
                assert (await http.get("/readyz")).json()["ready"] is True
                headers = {"x-standby-run-id": "the-last-one"}
                asking = asyncio.create_task(http.post("/v1/chat/completions", content=CHAT, headers=headers))
                await provider.until_requests(1)
                process.terminate()
                await _until_refused(httpx.URL(url).port)
                assert process.returncode is None
                release.set()
                response = await asking
            assert await process.wait() == 0
            assert await process.stdout.read() == b""
    assert (response.status_code, response.headers["connection"]) == (200, "close")
    assert not (tmp_path / "standby.db-wal").exists()
    connection = sqlite3.connect(tmp_path / "standby.db")
    assert connection.execute("SELECT run_id, outcome FROM runs").fetchall() == [("the-last-one", "answered")]
    connection.close()


async def _until_refused(port):
    """Return when nobody listens any more. Nothing tells that from outside but to try."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was about to be accepted
            continue
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_serve_reloads(tmp_path):
    """`POST /admin/reload` reads the file anew, and a wrong file changes nothing."""
    config = tmp_path / "gateway.yaml"
    said = asyncio.Queue()
    async with FaultServer(HELLO) as provider, asyncio.timeout(PATIENCE_SECONDS):
        raw = document({"primary": provider.url}, server={"port": 0})
        config.write_text(yaml.safe_dump(raw))
        explained = []

        def explain(gateway, asked):
            explained.append((gateway.runner.catalog.snapshot().version, dict(asked)))
            return {"explained": True}

        task = asyncio.create_task(serve(config, explain=explain, say=said.put_nowait))
        url = (await said.get()).removeprefix("listening on ")
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
            config.write_text(yaml.safe_dump({**raw, "models": {"renamed": raw["models"]["chat"]}}))
            assert (await http.post("/admin/reload")).json() == {"version": 2}
            models = (await http.get("/v1/models")).json()["data"]
            config.write_text(yaml.safe_dump({**raw, "models": {}}))
            wrong = await http.post("/admin/reload")
            kept = (await http.get("/v1/models")).json()["data"]
            assert (await http.post("/admin/explain", json={"model": "renamed"})).json() == {"explained": True}
        signal.raise_signal(signal.SIGTERM)
        await task
    assert [model["id"] for model in models] == ["renamed"]
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_config")
    assert kept == models
    assert explained == [(2, {"model": "renamed"})]
