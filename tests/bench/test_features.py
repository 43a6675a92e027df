"""What the features that a first try does not need cost it: CPU time of a run with all of them on beside one without.

Off: no limit, no hedge, nothing remembered of any candidate. On: limits of the candidate and of its key, a retry budget
that owes, and candidates that have been cooled and are demoted; and all of that with a hedge by a percentile, which
models ask for one by one, and which pays for a timer and for remembering how long answers took. Counting for `/metrics`,
which is the server's, is measured alone. Blocks alternate, and what is compared is the median of the ratios, pair by
pair: the machine's speed drifts.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time

import orjson

from standby.proxy._meter import Meter
from standby.runner import Body, Request, Runner
from standby.store import Cool, Demote, MemoryCatalog, Succeeded
from tests.bench.loopback import provider

IN_FLIGHT = 32
REQUESTS = 480
BLOCKS = 15
TARGET = 1.15
COUNTED_TARGET = 1.06
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Is all well? " * 20}], "max_tokens": 100}
CONTENT = orjson.dumps(BODY)
WIDE = {"requestsPerMinute": 10_000_000, "tokensPerMinute": 1_000_000_000, "concurrency": 1000}


def catalog(url, *, on, hedged=False):
    limits = WIDE if on else {}
    providers = {
        name: {"client": "openai", "base_url": f"{url}/v1", "api_key": "k", "rate_limit": limits} for name in "abc"
    }
    model = {"hedge": {"afterPercentile": 99.9}} if hedged else {}
    return MemoryCatalog.from_mapping(
        {
            "version": 1,
            "providers": providers,
            "runtime_policies": {"own": {"rateLimitPolicy": limits}},
            "models": {
                "chat": {
                    **model,
                    "candidates": [
                        {"id": name, "provider": name, "model": "m", "runtime_policy": "own"} for name in providers
                    ],
                }
            },
        }
    )


async def remember_much(runner):
    """Each candidate has recovered from a cooldown, and is demoted as all are; retries are owed for."""
    now = runner.now()
    for candidate in runner.route("chat").candidates:
        domain = candidate.domains.candidate
        await runner.state.apply(
            [
                Cool(domain, now - 3600, now - 1800, 8, "test"),
                Succeeded(domain, now, now),
                Demote(domain, now, now, 100, 0.0, "test"),
            ]
        )
        for _ in range(7):
            runner._driver.budgets.take(candidate.domains.provider, "unknown", candidate.retry_budget)


async def milliseconds_each(runner):
    left = iter(range(REQUESTS))

    async def worker():
        for _ in left:
            await runner.run(Request("chat", Body(CONTENT)))  # as a gateway has it: decoded once, with its bytes

    gc.collect()
    began = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(worker())
    return (time.process_time() - began) / REQUESTS * 1000


async def measure(url):
    rows = []
    async with (
        Runner(catalog(url, on=False)) as off,
        Runner(catalog(url, on=False)) as counted,
        Runner(catalog(url, on=True)) as on,
        Runner(catalog(url, on=True, hedged=True)) as hedged,
    ):
        await remember_much(on)
        await remember_much(hedged)
        Meter(counted)
        for block in range(BLOCKS + 1):
            row = [await milliseconds_each(runner) for runner in (off, counted, on, hedged)]
            if block:  # the first opens connections and imports
                rows.append(row)
    return rows


def test_a_first_try_that_succeeds_pays_for_no_feature():
    """All features on, hedges too, cost at most 1.15 times a run without; counting it for `/metrics` hardly anything."""
    with provider() as url:
        rows = asyncio.run(measure(url))
    ratios = [[cost / row[0] for cost in row] for row in rows]
    _, counted, on, hedged = medians = [statistics.median(column) for column in zip(*ratios, strict=True)]
    costs = [statistics.median(column) for column in zip(*rows, strict=True)]
    print("\n\nCPU of a run\n")
    for name, cost, ratio in zip(("off", "off, counted", "all on", "all on, hedged"), costs, medians, strict=True):
        print(f"{name:20}{cost:8.3f} ms{ratio:8.2f} x")
    assert counted <= COUNTED_TARGET
    assert on <= TARGET
    assert hedged <= TARGET
