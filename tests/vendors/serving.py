"""The gateway in front of a vendor of every kind, and of every pair of them, on real sockets."""

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product

from standby.proxy import bound_socket, create_app, run_server
from standby.runner import open_gateway
from tests.vendors.kinds import VENDORS
from tests.vendors.server import VendorServer

KINDS = {
    **dict.fromkeys(("openai", "azure_openai", "deepseek"), "openai"),
    **{name: name for name in ("anthropic", "gemini", "bedrock")},
}
"""Every kind of client, and the vendor whose API it speaks."""
PATHS = {"openai": "/v1", "gemini": "/v1beta", "deepseek": "/v1"}
MORE = {"bedrock": {"region": "eu-central-1"}}


PAIRS = [f"{a}, then {b}" for a, b in product(KINDS, KINDS)]


@asynccontextmanager
async def vendors_served():
    """The address of a server that has a model for each kind of vendor, and for each pair of which the first fails."""
    async with AsyncExitStack() as stack, asyncio.timeout(100):
        urls = {}
        for name, well in product(KINDS, (True, False)):
            server = await stack.enter_async_context(VendorServer(VENDORS[KINDS[name]], well=well))
            urls[f"{name}-{'well' if well else 'as-told'}"] = f"{server.url}{PATHS.get(name, '')}"
        yield await stack.enter_async_context(serving(document(urls)))


def document(urls):
    def candidate(provider, rank):
        model = VENDORS[KINDS[provider.partition("-")[0]]].model
        return {"id": provider, "provider": provider, "model": model, "priority": rank, "runtime_policy": "once"}

    models = {name: [candidate(f"{name}-as-told", 1)] for name in KINDS}
    models |= {
        f"{a}, then {b}": [candidate(f"{a}-as-told", 1), candidate(f"{b}-well", 2)] for a, b in product(KINDS, KINDS)
    }
    return {
        "version": 1,
        "providers": {
            name: {
                "client": name.partition("-")[0],
                "base_url": url,
                "api_key": "a-key-of-this-test",
                **MORE.get(name.partition("-")[0], {}),
            }
            for name, url in urls.items()
        },
        "runner_policies": {"next": {"failoverPolicy": {"ejectAfter": 0}}},
        "runtime_policies": {"once": {"retryPolicy": {"maxAttempts": 1}}},
        "models": {
            name: {"runner_policy": "next", "candidates": candidates, "queue": {"maxWaiting": 0}}
            for name, candidates in models.items()
        },
    }


@asynccontextmanager
async def serving(raw):
    listens = asyncio.Queue()
    async with open_gateway(raw) as gateway:
        app = create_app(gateway.runner, gateway.document.server)
        with bound_socket("127.0.0.1", 0) as listening:
            task = asyncio.create_task(run_server(app, listening, listens.put_nowait))
            try:
                yield (await listens.get()).removeprefix("listening on ")
                signal.raise_signal(signal.SIGTERM)
                await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
