"""Real sockets on both HTTP libraries; asyncio, because the server is."""

import anyio.from_thread
import pytest
from pydantic import SecretStr

from standby.clients import HttpPool, OpenAIClient, Request
from standby.demo.faults import FaultServer


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
def server_elsewhere():
    """A fault server in a thread of its own, for tests that do not run on asyncio."""

    def opened(script, **options):
        return portal.wrap_async_context_manager(FaultServer(script, **options))

    with anyio.from_thread.start_blocking_portal("asyncio") as portal:
        yield opened
