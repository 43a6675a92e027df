"""What must be measured in a process that does nothing else: its memory, with many runs under way and after many.

``python -m tests.bench.alone in_flight|memory URL ...`` prints what it measured as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import orjson
import psutil

from standby.clients import HttpPool
from standby.runner import Request, Runner, RunRecord
from standby.store import MemoryCatalog
from tests.bench.documents import ASKED, document
from tests.bench.measuring import allow_connections, as_many

HEADERS = {"content-type": "application/json", "authorization": "Bearer key-of-up0"}
LOOKS = 20
FAILS_EVERY = 5
AT_A_TIME = 250


def alone(*arguments: Any) -> Any:
    """What this file measures in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.alone", *map(str, arguments)]
    return orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def kilobytes() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1024


async def in_flight(url: str, who: str, count: int) -> dict[str, float]:
    """Kilobytes that each of so many calls under way needs, and of runs the runner's own time."""
    allow_connections()
    records: list[RunRecord] = []
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        if who == "bare":

            async def call() -> None:
                async with session.post(
                    f"{url}/hold/v1/chat/completions", data=orjson.dumps(ASKED), headers=HEADERS
                ) as response:
                    orjson.loads(await response.read())

        else:
            pool = await stack.enter_async_context(HttpPool(max_connections=2 * count))
            catalog = MemoryCatalog.from_mapping(document(url, path="/hold"))
            runner = await stack.enter_async_context(Runner(catalog, http=pool))

            async def call() -> None:
                records.append((await runner.run(Request("chat", ASKED))).record)

        async def told(path: str) -> int:
            async with session.post(f"{url}{path}") as response:
                return int(await response.read() or 0)

        async def hold(calls: int) -> float:
            tasks: list[asyncio.Future[None]] = []
            while len(tasks) < calls:  # by and by: the system's queue of new connections has an end
                tasks += [asyncio.ensure_future(call()) for _ in range(min(AT_A_TIME, calls - len(tasks)))]
                while await told("/held") < len(tasks):
                    for ended in [task for task in tasks if task.done()]:
                        ended.result()
                    await asyncio.sleep(0.01)
            held = kilobytes()
            await told("/release")
            await asyncio.gather(*tasks)
            return held

        await hold(1)
        records.clear()
        before = kilobytes()
        each = (await hold(count) - before) / count
    own = sorted(record.own_seconds * 1000 for record in records) or [0.0]
    return {"each": each, "own_p99": own[int(len(own) * 0.99)]}


async def memory(url: str, count: int) -> list[float]:
    """Kilobytes of this process, looked at `LOOKS` times while it does so many runs; every fifth fails over."""
    answers, fails_over = (MemoryCatalog.from_mapping(document(url, failing=failing)) for failing in (0, 1))
    async with Runner(answers) as answering, Runner(fails_over) as failing_over:
        numbers = itertools.count()

        async def call() -> None:
            runner = answering if next(numbers) % FAILS_EVERY else failing_over
            await runner.run(Request("chat", ASKED))

        looks: list[float] = []
        for _ in range(LOOKS):
            await as_many(call, count // LOOKS)
            looks.append(kilobytes())
    return looks


if __name__ == "__main__":
    match sys.argv[1:]:
        case "in_flight", its_url, asked, number:
            measured: Any = asyncio.run(in_flight(its_url, asked, int(number)))
        case "memory", its_url, number:
            measured = asyncio.run(memory(its_url, int(number)))
        case other:
            sys.exit(f"what is {other}?")
    print(orjson.dumps(measured).decode())
