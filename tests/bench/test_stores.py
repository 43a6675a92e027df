"""What the stores cost: CPU of a first try in one process, then runs per second and latency of one and of four processes.

Everything is beside memory. Blocks alternate, and what is compared is the median of what the blocks say, pair by pair:
the machine's speed drifts. The servers, the provider and the processes share the machine's cores, so that a machine
with few of them says what the stores cost all in all, and not how far they scale.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import statistics
import time

from standby.runner import open_gateway
from tests.bench.gateway import gateways, many, measure, until_written
from tests.bench.loopback import provider

RUNS = 240
CPU_BLOCKS = 15
TARGET = 1.1

BLOCKS = 3
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


async def cpu_of_blocks(documents):
    """CPU milliseconds of this process for one run, by block and document, until the records are written."""
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        runners = [(await stack.enter_async_context(open_gateway(each))).runner for each in documents]
        for block in range(CPU_BLOCKS + 1):
            row = []
            for runner in runners:
                gc.collect()
                began = time.process_time()
                await many(runner, "chat", iter(range(RUNS)))
                await until_written(runner)
                row.append((time.process_time() - began) / RUNS * 1000)
            if block:  # the first opens connections and imports
                rows.append(row)
    return rows


def ratios(stores):
    """What a run costs with each of these stores, printed; and how many times what the first of them costs."""
    with provider() as url:
        rows = asyncio.run(cpu_of_blocks([document(url, store) for store in stores.values()]))
    times = [statistics.median(row[n] / row[0] for row in rows) for n in range(len(stores))]
    costs = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"\n\nCPU of a run that is answered at the first try, median of {CPU_BLOCKS} blocks of {RUNS}\n")
    for name, cost, ratio in zip(stores, costs, times, strict=True):
        print(f"{name:24}{cost:8.3f} ms{ratio:8.2f} x")
    return times


def test_a_first_try_with_valkey_costs_what_one_in_memory_costs(valkey_url):
    """With the state in Valkey and no shared limit it is at most 1.1 times the CPU time."""
    assert ratios({"memory": {}, "state in Valkey": {"state_url": valkey_url}})[1] <= TARGET


def test_what_a_history_in_a_database_costs(tmp_path, postgres_url, valkey_url):
    """Printed; not beside the above, since whoever comes after a database has written measures a little more."""
    sqlite, kept = f"sqlite:///{tmp_path}/standby.db", {"url": postgres_url, "state_url": valkey_url}
    ratios({"memory": {}, "SQLite": {"url": sqlite}, "PostgreSQL + Valkey": kept})


def percentile(values, percent):
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measured(processes, model):
    """Runs per second of all processes together; the 50th and the 99th percentile of latency, in milliseconds."""
    runs = sum(measure(processes, "fast", model, FAST_SECONDS)) / FAST_SECONDS
    took = [each for one in measure(processes, "paced", model, PACED_SECONDS, EVERY_SECONDS) for each in one]
    return runs, percentile(took, 50), percentile(took, 99)


def test_runs_per_second_and_latency_of_one_and_four_processes(tmp_path, postgres_url, valkey_url):
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
        blocks = [{row: measured(*what) for row, what in rows.items()} for _ in range(BLOCKS)]
    print(
        f"\n\nBeside memory in one process, medians of {BLOCKS} blocks; latency with {1 / EVERY_SECONDS:.0f} runs/s a process\n"
    )
    print(f"{'':34}{'processes':>10}{'runs/s':>9}{'x':>7}{'p50 +ms':>10}{'p99 +ms':>10}")
    for row in rows:
        beside = [(block[row], block["memory", 1]) for block in blocks]
        runs = statistics.median(ours[0] for ours, _ in beside)
        times = statistics.median(ours[0] / base[0] for ours, base in beside)
        p50, p99 = (statistics.median(ours[n] - base[n] for ours, base in beside) for n in (1, 2))
        print(f"{row[0]:34}{row[1]:10}{runs:9.0f}{times:7.2f}{p50:10.2f}{p99:10.2f}")
