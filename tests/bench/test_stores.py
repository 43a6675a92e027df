"""What the stores cost: CPU of a first try in one process, then runs per second and latency of one and of four processes.

Everything is beside memory. The servers, the provider and the processes share the machine's cores, so that a machine
with few of them says what the stores cost all in all, and not how far they scale.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from operator import itemgetter

from standby.runner import open_gateway
from tests.bench.gateway import gateways, many, measure, until_written
from tests.bench.loopback import provider
from tests.bench.measuring import alternate
from tests.bench.report import Blocks, at_most

RUNS = 240
CPU_ROUNDS = 15

ROUNDS = 3
FAST_SECONDS = 0.4
PACED_SECONDS = 0.6
EVERY_SECONDS = 0.005
WIDE = {"requestsPerMinute": 10_000_000, "tokensPerMinute": 1_000_000_000, "concurrency": 1000}


def document(url, store, *, limited=False):
    """Models of one candidate each: one without limits, and where asked for one whose limit processes share."""

    def model(policy):
        return {"candidates": [{"id": "a", "provider": "a", "model": "m", "runtime_policy": policy}]}

    return {
        "version": 1,
        "store": store,
        "providers": {"a": {"client": "openai", "base_url": f"{url}/v1"}},
        "runtime_policies": {"free": {}, "limited": {"rateLimitPolicy": WIDE if limited else {}}},
        "models": {"chat": model("free"), "limited": model("limited")},
    }


async def cpu_of_runs(documents):
    """CPU milliseconds of this process for one run, by document, until the records are written."""

    def block(runner):
        async def measured():
            began = time.process_time()
            await many(runner, "chat", iter(range(RUNS)))
            await until_written(runner)
            return (time.process_time() - began) / RUNS * 1000

        return measured

    async with contextlib.AsyncExitStack() as stack:
        gateways = {name: await stack.enter_async_context(open_gateway(each)) for name, each in documents.items()}
        blocks = {name: block(gateway.runner) for name, gateway in gateways.items()}
        return Blocks(await alternate(blocks, CPU_ROUNDS))


def cpu_with(stores):
    with provider() as url:
        return asyncio.run(cpu_of_runs({name: document(url, store) for name, store in stores.items()}))


def test_stores_first_try_with_the_state_in_valkey(report, valkey_url):
    """With the state in Valkey and no shared limit it is at most 1.1 times the CPU time."""
    blocks = cpu_with({"memory": {}, "state in Valkey": {"state_url": valkey_url}})
    report.table("CPU of a first try, its state in Valkey", "ms", blocks, beside="memory")
    report.must(at_most(1.1, "a first try with the state in Valkey", blocks.times("state in Valkey", "memory")))


def test_stores_history_in_a_database(report, tmp_path, postgres_url, valkey_url):
    """Printed; not beside the above, since whoever comes after a database has written measures a little more."""
    sqlite, kept = f"sqlite:///{tmp_path}/standby.db", {"url": postgres_url, "state_url": valkey_url}
    blocks = cpu_with({"memory": {}, "SQLite": {"url": sqlite}, "PostgreSQL + Valkey": kept})
    report.table("CPU of a first try until its record is written", "ms", blocks, beside="memory")


def percentile(values, percent):
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measured(processes, model):
    """Runs per second of all processes together; the 50th and the 99th percentile of latency, in milliseconds."""
    runs = sum(measure(processes, "fast", model, FAST_SECONDS)) / FAST_SECONDS
    took = [each for one in measure(processes, "paced", model, PACED_SECONDS, EVERY_SECONDS) for each in one]
    return runs, percentile(took, 50), percentile(took, 99)


def test_stores_one_and_four_processes(report, tmp_path, postgres_url, valkey_url):
    """Printed: what the stores let through, and what they add to the latency of runs that come 200 a second a process.

    One is the first of the four; the others are there, and have nothing to do.
    """
    kept = {"url": postgres_url, "state_url": valkey_url}
    stores = {
        "memory": ({}, ["chat"]),
        "SQLite": ({"url": f"sqlite:///{tmp_path}/standby.db"}, ["chat"]),
        "PostgreSQL + Valkey": (kept, ["chat", "limited"]),
    }
    rows = {}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(provider())
        for name, (store, models) in stores.items():
            four = stack.enter_context(gateways(document(url, store, limited="limited" in models), 4))
            for model, processes in itertools.product(models, (four[:1], four)):
                rows[name + ", shared limit" * (model == "limited"), len(processes)] = processes, model
        for processes, model in rows.values():
            measure(processes, "fast", model, 0.1)  # opens connections, and imports
        rounds = [{row: measured(*what) for row, what in rows.items()} for _ in range(ROUNDS)]

    def blocks(value, beside=lambda base: 0.0):
        return Blocks(
            {
                f"{name}, {count}": [value(each[name, count]) - beside(each["memory", 1]) for each in rounds]
                for name, count in rows
            }
        )

    report.table("Stores, and how many processes: runs together", "runs/s", blocks(itemgetter(0)), beside="memory, 1")
    for what, value in (("50th", itemgetter(1)), ("99th", itemgetter(2))):
        title = f"Stores: {what} percentile of latency at {1 / EVERY_SECONDS:.0f} runs/s a process, beside memory, 1"
        report.table(title, "ms more", blocks(value, value))
