"""What a run costs beside the bare call it makes: CPU time of this process, on the same loopback server.

Blocks of the contestants alternate, and each row is the median of its blocks: the machine's speed drifts, the ratios
stay.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport
from pydantic import SecretStr

from standby.clients import OpenAIClient
from standby.clients import Request as ModelRequest
from standby.runner import Request, Runner
from standby.store import MemoryCatalog
from tests.bench.loopback import provider

IN_FLIGHT = 32
REQUESTS = 640
BLOCKS = 7
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Is all well? " * 20}]}


def catalog(url, *, failing=0):
    """One model: so many candidates that fail, then one that answers."""
    providers = {"up": {"client": "openai", "base_url": f"{url}/v1", "api_key": "k"}}
    providers |= {
        f"down{n}": {"client": "openai", "base_url": f"{url}/down{n}", "api_key": "k"} for n in range(failing)
    }
    candidates = [
        {"id": name, "provider": name, "model": "gpt-4o", "priority": rank}
        for rank, name in enumerate(reversed(providers))
    ]
    return MemoryCatalog.from_mapping(
        {
            "version": 1,
            "providers": providers,
            "runner_policies": {"own": {"failoverPolicy": {"ejectAfter": 0}}},
            "runtime_policies": {"own": {"retryPolicy": {"maxAttempts": 1}}},
            "models": {
                "chat": {
                    "runner_policy": "own",
                    "candidates": [{**each, "runtime_policy": "own"} for each in candidates],
                }
            },
        }
    )


async def milliseconds_each(call):
    """CPU milliseconds of this process for one call, with so many under way at once."""
    left = iter(range(REQUESTS))

    async def worker():
        for _ in left:
            await call()

    gc.collect()
    began = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(worker())
    return (time.process_time() - began) / REQUESTS * 1000


async def measure(url):
    content, headers = orjson.dumps(BODY), {"content-type": "application/json", "authorization": "Bearer k"}
    endpoint = f"{url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        httpx.AsyncClient(transport=AiohttpTransport()) as over_aiohttp,
        httpx.AsyncClient() as plain_httpx,
        Runner(catalog(url)) as runner,
        Runner(catalog(url, failing=1)) as failing_over,
    ):
        client = OpenAIClient(base_url=f"{url}/v1", api_key=SecretStr("k"))
        sent = ModelRequest("gpt-4o", BODY)

        async def bare_aiohttp():
            async with session.post(endpoint, data=content, headers=headers) as response:
                orjson.loads(await response.read())

        async def httpx_over_aiohttp():
            orjson.loads((await over_aiohttp.post(endpoint, content=content, headers=headers)).content)

        async def bare_httpx():
            orjson.loads((await plain_httpx.post(endpoint, content=content, headers=headers)).content)

        async def client_alone():
            await client.send(sent)

        async def run():
            await runner.run(Request("chat", BODY))

        async def run_with_failover():
            assert (await failing_over.run(Request("chat", BODY))).record.attempts == 2

        rows = {
            "bare aiohttp": bare_aiohttp,
            "httpx over aiohttp": httpx_over_aiohttp,
            "bare httpx": bare_httpx,
            "Standby: the client alone": client_alone,
            "Standby: one run": run,
            "Standby: 500, then an answer": run_with_failover,
        }
        measured = {name: [] for name in rows}
        for block in range(BLOCKS + 1):
            for name, call in rows.items():
                each = await milliseconds_each(call)
                if block:  # the first opens connections and imports
                    measured[name].append(each)
        await client.aclose()
    return {name: statistics.median(blocks) for name, blocks in measured.items()}


def test_what_a_run_costs_beside_the_bare_call():
    """The runner's own part, and the whole run beside the bare call, printed."""
    with provider() as url:
        costs = asyncio.run(measure(url))
    bare, run, client = costs["bare aiohttp"], costs["Standby: one run"], costs["Standby: the client alone"]
    print(f"\n\nCPU per request, {IN_FLIGHT} in flight, median of {BLOCKS} blocks of {REQUESTS}\n")
    print(f"{'':32}{'ms':>8}{'x bare aiohttp':>18}")
    for name, each in costs.items():
        print(f"{name:32}{each:8.3f}{each / bare:18.2f}")
    print(f"\nthe runner's cost over its client: {(run - client) * 1000:.0f} µs a run\n")
    assert run < costs["bare httpx"], "a run must cost less than one bare call with httpx"
