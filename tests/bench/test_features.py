"""What the features that a first try does not need cost it: CPU time of a run with all of them on beside one without.

None: no limit, no hedge, nothing remembered of any candidate. All: rules in every policy, limits of the candidate and of its key, a retry budget
that owes, and candidates that have been cooled and are demoted; and all of that with a hedge by a percentile, which
models ask for one by one, and which pays for a timer and for remembering how long answers took. Counting for `/metrics`,
which is the server's, is measured alone.
"""

from __future__ import annotations

import asyncio

import orjson

from standby.proxy._meter import Meter
from standby.runner import Body, Request, Runner
from standby.store import Cool, Demote, MemoryCatalog, Succeeded
from tests.bench.documents import ASKED
from tests.bench.loopback import provider
from tests.bench.measuring import alternate, cpu_each
from tests.bench.report import Blocks, at_most

RUNS = 480
ROUNDS = 16
CONTENT = orjson.dumps(ASKED)
WIDE = {"requestsPerMinute": 10_000_000, "tokensPerMinute": 1_000_000_000, "concurrency": 1000}
POLICY = {
    "hardStopPolicy": {"codes": ["content_filter"], "keywords": ["safety"]},
    "failoverPolicy": {"denyKeywords": ["never"], "allowCodes": ["conflict"], "allowStatusCodes": [409]},
    "priorityDemotePolicy": {"enabled": True, "categories": ["timeout", "network"], "keywords": ["slow"]},
}
OFF, COUNTED, ON, HEDGED = "none", "none, counted for /metrics", "all policies on", "all policies on, and hedges"


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
            "runner_policies": {"own": POLICY if on else {}},
            "runtime_policies": {"own": {"rateLimitPolicy": limits}},
            "models": {
                "chat": {
                    **model,
                    "runner_policy": "own",
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


def run_of(runner):
    async def run():
        await runner.run(Request("chat", Body(CONTENT)))  # as a gateway has it: decoded once, with its bytes

    return run


async def measure(url):
    async with (
        Runner(catalog(url, on=False)) as off,
        Runner(catalog(url, on=False)) as counted,
        Runner(catalog(url, on=True)) as on,
        Runner(catalog(url, on=True, hedged=True)) as hedged,
    ):
        await remember_much(on)
        await remember_much(hedged)
        Meter(counted)
        runners = {OFF: off, COUNTED: counted, ON: on, HEDGED: hedged}
        return Blocks(await alternate({name: cpu_each(run_of(each), RUNS) for name, each in runners.items()}, ROUNDS))


def test_features_that_a_first_try_does_not_need(report):
    """All of them, hedges too, cost at most 1.15 times a run without; counting it for `/metrics` hardly anything."""
    with provider() as url:
        blocks = asyncio.run(measure(url))
    report.table("CPU of a first try, with what it does not need", "ms", blocks, beside=OFF)
    report.must(
        at_most(1.06, "a first try that is counted for /metrics", blocks.times(COUNTED, OFF)),
        at_most(1.15, "a first try with all policies on", blocks.times(ON, OFF)),
        at_most(1.15, "a first try with all policies on, and hedges", blocks.times(HEDGED, OFF)),
    )
