"""A server that listens on a real socket, in the test's own loop, and callers who write what they like."""

import asyncio
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from standby.demo.faults import FaultServer, chat_answer
from standby.proxy import bound_socket, create_app, run_server
from standby.runner import Runner, open_gateway

HELLO = chat_answer("Hello.")
CHAT = b'{"model": "chat", "messages": []}'
PATIENCE_SECONDS = 20


def document(urls, *, server=None, store=None, policy=None, first=None, **model):
    """The model `chat` with a candidate for each provider, in that order: one try each, one call at a time.

    ``first`` is the first one's own policy.
    """
    candidates = [
        {"id": name, "provider": name, "model": "m", "priority": rank, "runtime_policy": "own"}
        for rank, name in enumerate(urls)
    ]
    candidates[0]["runtimePolicyOverride"] = first or {}
    own = {"retryPolicy": {"maxAttempts": 1}, "rateLimitPolicy": {"concurrency": 1}, **(policy or {})}
    return {
        "version": 1,
        "server": server or {},
        "store": store or {},
        "providers": {name: {"client": "openai", "base_url": f"{url}/v1"} for name, url in urls.items()},
        "runtime_policies": {"own": own},
        "models": {"chat": {"runner_policy": "bare", "candidates": candidates, **model}},
    }


@dataclass
class Serving:
    """A server that listens."""

    url: str
    http: httpx.AsyncClient
    runner: Runner
    task: asyncio.Task
    provider: FaultServer | None = None

    async def chat(self, **headers):
        return await self.http.post("/v1/chat/completions", content=CHAT, headers=headers)

    @property
    def port(self):
        return httpx.URL(self.url).port

    @asynccontextmanager
    async def connected(self):
        """A caller's bare connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def serving(raw):
    """A server in this loop; it is told to stop as an operator would."""
    said = asyncio.Queue()
    async with open_gateway(raw) as gateway:
        app = create_app(gateway.runner, gateway.document.server)
        with bound_socket("127.0.0.1", 0) as listening:
            task = asyncio.create_task(run_server(app, listening, said.put_nowait))
            try:
                url = (await said.get()).removeprefix("listening on ")
                async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
                    yield Serving(url, http, gateway.runner, task)
                if not task.done():
                    signal.raise_signal(signal.SIGTERM)
                    await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def served(script, **parts):
    """A server with one provider that does what the script says; and no test waits for ever."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        FaultServer(script) as provider,
        serving(document({"primary": provider.url}, **parts)) as gateway,
    ):
        gateway.provider = provider
        yield gateway


def request(content=CHAT, *headers, path="/v1/chat/completions"):
    """A request as it is written on the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


async def answer_of(reader):
    """The status and the body of the next answer on a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *headers = head.decode("latin-1").split("\r\n")
    [length] = [header.split(":")[1] for header in headers if header.lower().startswith("content-length:")]
    return int(status.split()[1]), await reader.readexactly(int(length))
