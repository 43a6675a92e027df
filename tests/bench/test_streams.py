"""What a chunk of a stream costs beside the bare libraries, and when the first one is there.

All are given the same bytes to send, and the address as they like it best. What Standby does with them counts: it
decodes them, puts the provider's name of the model in, and looks at every event before the first content.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time

import aiohttp
import httpx
import orjson
import pytest
import yarl

from standby.runner import Request, Runner
from standby.store import MemoryCatalog
from tests.bench.loopback import PACED_SECONDS, STREAM_CHUNKS, THINKING_SECONDS, provider
from tests.bench.measuring import alternate
from tests.bench.report import Blocks, at_most

ROUNDS = 8
STREAMS = 4
FIRSTS = 50
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Is all well?"}], "stream": True}
CONTENT, HEADERS = orjson.dumps(BODY), {"content-type": "application/json"}

CONTENT_CHUNK = b'"content":" word"'

BARE, BY_BLOCKS, BY_CHUNKS = "bare aiohttp", "Standby, passed on", "Standby, by chunks"

WRITES = {
    "": "a write for each, as fast as may be",
    "/paced": f"a write for each, {PACED_SECONDS * 1e6:.0f} µs apart",
    "/burst": "a burst",
}


def catalog(url):
    return MemoryCatalog.from_mapping(
        {
            "version": 1,
            "providers": {"a": {"client": "openai", "base_url": f"{url}/v1"}},
            "models": {"chat": {"candidates": [{"id": "a", "provider": "a", "model": "gpt-4o"}]}},
        }
    )


def contestants(url, session, client, runner):
    """Each reads one whole stream, and returns when the first chunk with content was there."""
    endpoint = f"{url}/v1/chat/completions"
    parsed = yarl.URL(endpoint)

    async def bare_aiohttp():
        first = None
        async with session.post(parsed, data=CONTENT, headers=HEADERS) as response:
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
        async with runner.stream(Request("chat", CONTENT)) as stream:
            while (block := await stream.read()) is not None:
                if first is None and block.content:
                    first = time.perf_counter()
        return first

    async def by_chunks():
        first = None
        async with runner.stream(Request("chat", CONTENT)) as stream:
            async for chunk in stream:
                if first is None and CONTENT_CHUNK in chunk.content:
                    first = time.perf_counter()
        return first

    return {
        BARE: bare_aiohttp,
        "bare httpx": bare_httpx,
        BY_BLOCKS: by_blocks,
        BY_CHUNKS: by_chunks,
    }


async def measure(url):
    """Microseconds for each chunk that each contestant needs: of this process's processor, and that pass."""

    def block(stream):
        async def measured():
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(STREAMS):
                await stream()
            each = 1e6 / STREAMS / STREAM_CHUNKS
            return (time.process_time() - cpu) * each, (time.perf_counter() - wall) * each

        return measured

    async with aiohttp.ClientSession() as session, httpx.AsyncClient() as client, Runner(catalog(url)) as runner:
        rows = contestants(url, session, client, runner)
        measured = await alternate({name: block(stream) for name, stream in rows.items()}, ROUNDS)
    return tuple(Blocks({name: [each[n] for each in rounds] for name, rounds in measured.items()}) for n in (0, 1))


async def measure_firsts(url):
    """Microseconds to the first chunk with content: the medians of each round.

    Single streams of the two alternate, so that whatever the machine does it does to both. A third would leave its code
    in the processor's caches, and not ours. Nothing else comes of a stream before its first content has been seen.
    """
    async with aiohttp.ClientSession() as session, httpx.AsyncClient() as client, Runner(catalog(url)) as runner:
        everybody = contestants(url, session, client, runner)
        rounds = {name: [] for name in (BARE, BY_BLOCKS)}
        for number in range(ROUNDS + 1):
            gc.collect()
            firsts = {name: [] for name in rounds}
            for _ in range(FIRSTS):
                for name, took in firsts.items():
                    asked = time.perf_counter()
                    took.append((await everybody[name]() - asked) * 1e6)
            if number:  # the first opens connections and imports
                for name, took in firsts.items():
                    rounds[name].append(statistics.median(took))
    return Blocks(rounds)


@pytest.mark.parametrize(("pace", "most"), [("", 1.5), ("/paced", 1.5), ("/burst", 1.4)])
def test_streams_cost_of_a_chunk(report, pace, most):
    """Beside bare aiohttp, which only reads bytes: the time that passes, and the processor's where it is busy."""
    with provider() as url:
        cpu, wall = asyncio.run(measure(url + pace))
    told = f"A chunk of a stream of {STREAM_CHUNKS} in {WRITES[pace]}"
    report.table(f"{told}, CPU", "µs", cpu, beside=BARE)
    report.table(f"{told}, time", "µs", wall, beside=BARE)
    # Where many chunks are read at once aiohttp makes no chunks: taking them apart is no comparison there.
    ours = (BY_BLOCKS, BY_CHUNKS) if pace == "/paced" else (BY_BLOCKS,)
    # Between paced chunks the processor sleeps, and what it costs to wake it is most of both figures: printed only.
    measures = {"time": wall} if pace == "/paced" else {"time": wall, "CPU": cpu}
    report.must(
        *(
            at_most(most, f"{name}: {measure} of a chunk in {WRITES[pace]}", blocks.times(name, BARE))
            for name in ours
            for measure, blocks in measures.items()
        )
    )


@pytest.mark.parametrize(("path", "most"), [("/begun/thinking", 1.3), ("/begun", 1.9)])
def test_streams_when_the_first_chunk_is_there(report, path, most):
    """At most 1.3 times as late as with bare aiohttp, from a provider that thinks hundreds of times too fast.

    From one that needs no time at all, as no provider does, what holds is asserted: it was never met there.
    """
    with provider() as url:
        firsts = asyncio.run(measure_firsts(url + path))
    thinks = f"thinks for {THINKING_SECONDS * 1e3:g} ms" if "thinking" in path else "answers at once"
    report.table(f"The first chunk with content, where the provider {thinks}", "µs", firsts, beside=BARE)
    report.must(at_most(most, f"the first chunk, where the provider {thinks}", firsts.times(BY_BLOCKS, BARE)))
