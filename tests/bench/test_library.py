"""What a run costs beside the bare call it makes: the processor's time of this process, on the same loopback server.

Everybody begins with a mapping and ends with one, as whoever embeds a library does.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import httpx
import orjson
import uvloop
from httpx_aiohttp import AiohttpTransport
from pydantic import SecretStr

from standby.clients import OpenAIClient
from standby.clients import Request as ModelRequest
from standby.runner import Request, Runner
from standby.store import MemoryCatalog
from tests.bench.documents import ASKED, document
from tests.bench.loopback import provider
from tests.bench.measuring import IN_FLIGHT, alternate, cpu_each
from tests.bench.report import Blocks, at_most

CALLS = 320
ROUNDS = 12
HEADERS = {"content-type": "application/json", "authorization": "Bearer key-of-up0"}

ONE, TEN, THOUSAND = (f"Standby, {n} candidate{'s' * (n > 1)}" for n in (1, 10, 1000))
FAILING_OVER = "Standby, a 500 and then an answer"
BARE, OVER_AIOHTTP = "bare aiohttp", "httpx over aiohttp"


async def bare(url, stack):
    """The libraries themselves: what they must be given is made once, as far as it is the same for all calls."""
    endpoint = f"{url}/v1/chat/completions"
    session = await stack.enter_async_context(aiohttp.ClientSession())
    over_aiohttp = await stack.enter_async_context(httpx.AsyncClient(transport=AiohttpTransport()))
    plain_httpx = await stack.enter_async_context(httpx.AsyncClient())

    async def bare_aiohttp():
        async with session.post(endpoint, data=orjson.dumps(ASKED), headers=HEADERS) as response:
            return orjson.loads(await response.read())

    async def httpx_over_aiohttp():
        response = await over_aiohttp.post(endpoint, content=orjson.dumps(ASKED), headers=HEADERS)
        return orjson.loads(response.content)

    async def bare_httpx():
        response = await plain_httpx.post(endpoint, content=orjson.dumps(ASKED), headers=HEADERS)
        return orjson.loads(response.content)

    return {BARE: bare_aiohttp, OVER_AIOHTTP: httpx_over_aiohttp, "bare httpx": bare_httpx}


async def client_alone(url, stack):
    """Our client without a runner."""
    client = OpenAIClient(base_url=f"{url}/v1", api_key=SecretStr("key-of-up0"))
    stack.push_async_callback(client.aclose)

    async def call():
        return (await client.send(ModelRequest("gpt-4o", ASKED))).data

    return call


async def runs(url, stack, *, attempts=1, **of_document):
    """Runs of a gateway, each of which must come to its answer in so many attempts."""
    runner = await stack.enter_async_context(Runner(MemoryCatalog.from_mapping(document(url, **of_document))))

    async def run():
        result = await runner.run(Request("chat", ASKED))
        assert result.record.attempts == attempts
        return result.data

    return run


async def measured(url, *, everybody):
    async with AsyncExitStack() as stack:
        calls = await bare(url, stack)
        calls[ONE] = await runs(url, stack)
        if everybody:
            calls["Standby's client without the runner"] = await client_alone(url, stack)
            calls[TEN] = await runs(url, stack, candidates=10)
            calls[THOUSAND] = await runs(url, stack, candidates=1000)
            calls[FAILING_OVER] = await runs(url, stack, failing=1, attempts=2)
        else:
            del calls["bare httpx"]
        return Blocks(await alternate({name: cpu_each(call, CALLS) for name, call in calls.items()}, ROUNDS))


def test_library_first_try_and_failover(report):
    """What a first try, a thousand candidates and a failover cost, on asyncio's own loop."""
    with provider() as url:
        blocks = asyncio.run(measured(url, everybody=True))
    report.table(f"CPU of one call, {IN_FLIGHT} in flight, asyncio's loop", "ms", blocks, beside=BARE)
    report.must(
        at_most(2.0, "first try, beside bare aiohttp", blocks.times(ONE, BARE)),
        at_most(0.6, "first try, beside httpx over aiohttp", blocks.times(ONE, OVER_AIOHTTP)),
        at_most(1.1, "1,000 candidates, beside 1", blocks.times(THOUSAND, ONE)),
        at_most(2.2, "a 500 and then an answer, beside one answer", blocks.times(FAILING_OVER, ONE)),
    )


def test_library_on_uvloop(report):
    """The same first try where the loop is a faster one; the targets are those of asyncio's."""
    with provider() as url:
        blocks = uvloop.run(measured(url, everybody=False))
    report.table(f"CPU of one call, {IN_FLIGHT} in flight, uvloop", "ms", blocks, beside=BARE)
