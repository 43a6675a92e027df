"""What a chunk of a stream costs beside the bare libraries, and when the first one is there.

Blocks of the contestants alternate; a row is the least of its blocks, since whatever else the machine does only adds.
"""

from __future__ import annotations

import asyncio
import gc
import time

import aiohttp
import httpx
import orjson
import pytest

from standby.runner import Request, Runner
from standby.store import MemoryCatalog
from tests.bench.loopback import STREAM_CHUNKS, provider

BLOCKS = 12
STREAMS = 6
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Is all well?"}], "stream": True}
CONTENT, HEADERS = orjson.dumps(BODY), {"content-type": "application/json"}

CONTENT_CHUNK = b'"content":" word"'

CHUNK_TARGET = 1.5
FIRST_CHUNK_TARGET = 1.3


def catalog(url):
    return MemoryCatalog.from_mapping(
        {
            "version": 1,
            "providers": {"a": {"client": "openai", "base_url": f"{url}/v1"}},
            "models": {"chat": {"candidates": [{"id": "a", "provider": "a", "model": "gpt-4o"}]}},
        }
    )


async def contestants(url, session, client, runner):
    """Each reads one whole stream, and returns when the first chunk with content was there."""
    endpoint = f"{url}/v1/chat/completions"

    async def bare_aiohttp():
        first = None
        async with session.post(endpoint, data=CONTENT, headers=HEADERS) as response:
            async for part in response.content.iter_any():
                if first is None and CONTENT_CHUNK in part:
                    first = time.perf_counter()
        return first

    async def bare_httpx():
        first = None
        async with client.stream("POST", endpoint, content=CONTENT, headers=HEADERS) as response:
            async for part in response.aiter_bytes():
                if first is None and CONTENT_CHUNK in part:
                    first = time.perf_counter()
        return first

    async def by_blocks():
        first = None
        async with runner.stream(Request("chat", BODY)) as stream:
            while await stream.read() is not None:
                first = first or time.perf_counter()
        return first

    async def by_chunks():
        first = None
        async with runner.stream(Request("chat", BODY)) as stream:
            async for _ in stream:
                first = first or time.perf_counter()
        return first

    return {
        "bare aiohttp": bare_aiohttp,
        "bare httpx": bare_httpx,
        "Standby, passed on": by_blocks,
        "Standby, by chunks": by_chunks,
    }


async def measure(url):
    """The least CPU microseconds a chunk and the least milliseconds to the first chunk, of each contestant."""
    async with aiohttp.ClientSession() as session, httpx.AsyncClient() as client, Runner(catalog(url)) as runner:
        rows = await contestants(url, session, client, runner)
        chunk = dict.fromkeys(rows, float("inf"))
        first = dict.fromkeys(rows, float("inf"))
        for block in range(BLOCKS + 1):
            for name, stream in rows.items():
                gc.collect()
                began = time.process_time()
                waits = []
                for _ in range(STREAMS):
                    asked = time.perf_counter()
                    waits.append(await stream() - asked)
                if block:  # the first opens connections and imports
                    chunk[name] = min(chunk[name], (time.process_time() - began) / STREAMS / STREAM_CHUNKS * 1e6)
                    first[name] = min(first[name], min(waits) * 1e3)
    return chunk, first


@pytest.mark.parametrize("pace", ["", "/burst"])
def test_what_a_chunk_costs_beside_the_bare_libraries(pace):
    """At most 1.5 times bare aiohttp a chunk, and 1.3 times to the first."""
    with provider() as url:
        chunk, first = asyncio.run(measure(url + pace))
    bare, bare_first = chunk["bare aiohttp"], first["bare aiohttp"]
    writes = "a few writes" if pace else "a write for each"
    print(f"\n\nA stream of {STREAM_CHUNKS} chunks, {writes}, least of {BLOCKS} blocks\n")
    print(f"{'':24}{'µs a chunk':>12}{'x':>7}{'first, ms':>12}{'x':>7}")
    for name in chunk:
        print(
            f"{name:24}{chunk[name]:12.2f}{chunk[name] / bare:7.2f}{first[name]:12.3f}{first[name] / bare_first:7.2f}"
        )
    assert chunk["Standby, passed on"] <= CHUNK_TARGET * bare
    assert first["Standby, passed on"] <= FIRST_CHUNK_TARGET * bare_first
