"""Real sockets on both HTTP libraries; asyncio, because the server is."""

from contextlib import asynccontextmanager

import anyio
import anyio.from_thread
import pytest
from pydantic import SecretStr

from standby.clients import HttpPool, OpenAIClient, Request
from standby.demo.faults import FaultServer
from standby.runner import Runner
from standby.store import MemoryCatalog

PATIENCE_SECONDS = 30
CAPACITY = 100


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=["aiohttp", "httpx"])
def library(request):
    """Which library carries the calls."""
    return request.param


@pytest.fixture
def open_pool(library):
    """Makes pools over that library, with short clocks of their own where a test waits for one."""

    def opened(**options):
        return HttpPool(library=library, trust_env=False, **options)

    return opened


@pytest.fixture
def ask():
    """Sends one chat request over a pool to a server."""

    async def asked(pool, url, **options):
        client = OpenAIClient(api_key=SecretStr("sk-test-0123456789"), base_url=f"{url}/v1", http=pool, **options)
        return await client.send(Request(model="gpt", body={"messages": []}))

    return asked


@pytest.fixture
def open_runner(open_pool):
    """Makes runners of one model, `chat`, with a candidate for each address; the first has the clocks of a test."""

    @asynccontextmanager
    async def opened(*urls, policy=None, timeouts=None):
        names = ["primary", "backup"][: len(urls)]
        patient = {"firstTokenSeconds": PATIENCE_SECONDS, "idleSeconds": PATIENCE_SECONDS}
        own = {"retryPolicy": {"maxAttempts": 1}, "rateLimitPolicy": {"concurrency": CAPACITY}}
        document = {
            "version": 1,
            "providers": {name: {"client": "openai", "base_url": url} for name, url in zip(names, urls, strict=True)},
            "runner_policies": {"own": {"failoverPolicy": {"ejectAfter": 0}, **(policy or {})}},
            "runtime_policies": {
                "primary": {**own, "timeouts": {**patient, **(timeouts or {})}},
                "backup": {**own, "timeouts": patient},
            },
            "models": {
                "chat": {
                    "runner_policy": "own",
                    "candidates": [
                        {"id": name, "provider": name, "model": "m", "priority": rank, "runtime_policy": name}
                        for rank, name in enumerate(names)
                    ],
                }
            },
        }
        async with open_pool() as connections:
            async with Runner(MemoryCatalog.from_mapping(document), http=connections) as runner:
                with anyio.fail_after(PATIENCE_SECONDS):
                    yield runner
                assert not any(runner.held.values())
            assert connections.in_use == 0

    return opened


@pytest.fixture
def server_elsewhere():
    """A fault server in a thread of its own, for tests that do not run on asyncio."""

    def opened(script, **options):
        return portal.wrap_async_context_manager(FaultServer(script, **options))

    with anyio.from_thread.start_blocking_portal("asyncio") as portal:
        yield opened
