"""A gateway in a process of its own: it is told in lines what to do, and answers each with what it measured."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson

from standby.runner import Body, Request, Runner, open_gateway

IN_FLIGHT = 32
CONTENT = orjson.dumps(
    {"model": "chat", "messages": [{"role": "user", "content": "Is all well? " * 20}], "max_tokens": 100}
)


async def ask(runner: Runner, model: str) -> None:
    """One run; the body as a gateway has it: decoded once, with its bytes."""
    await runner.run(Request(model, Body(CONTENT)))


async def many(runner: Runner, model: str, runs: Iterator[Any]) -> None:
    """So many runs, `IN_FLIGHT` at once."""

    async def worker():
        for _ in runs:
            await ask(runner, model)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(worker())


async def until_written(runner: Runner) -> None:
    """Wait until the history has written every record; memory writes none."""
    writer = getattr(runner.history, "writer", None)
    while writer is not None and next(iter(writer), None) is not None:  # noqa: ASYNC110 - a writer tells nobody
        await asyncio.sleep(0.005)
    if writer is not None:
        assert not runner.history.dropped, "the history did not keep up"


async def as_fast_as_may_be(runner: Runner, model: str, seconds: float) -> int:
    """How many runs ended in that time."""
    until = time.perf_counter() + seconds
    ended = 0

    def runs():
        nonlocal ended
        while time.perf_counter() < until:
            yield
            ended += 1  # whoever asks for the next has ended one

    await many(runner, model, runs())
    return ended


async def paced(runner: Runner, model: str, seconds: float, every_seconds: float) -> list[float]:
    """Milliseconds from when each run was due to its end: also what held it up before it began."""
    took = []

    async def run(due):
        await ask(runner, model)
        took.append((time.perf_counter() - due) * 1000)

    due = time.perf_counter()
    until = due + seconds
    async with asyncio.TaskGroup() as tasks:
        while (due := due + every_seconds) < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(run(due))
    return took


async def obey() -> None:
    document = orjson.loads(sys.stdin.readline())
    async with open_gateway(document) as gateway:
        print(flush=True)
        # In a thread: what the gateway does of itself goes on.
        while told := await asyncio.to_thread(sys.stdin.readline):
            does, *arguments = orjson.loads(told)
            gc.collect()
            measured = await {"fast": as_fast_as_may_be, "paced": paced}[does](gateway.runner, *arguments)
            await until_written(gateway.runner)
            print(orjson.dumps(measured).decode(), flush=True)


def measure(processes: list[subprocess.Popen[str]], *order: Any) -> list[Any]:
    """Give all of them the same order at once; what each measured."""
    for process in processes:
        tell(process, order)
    return [orjson.loads(process.stdout.readline()) for process in processes]


def tell(process: subprocess.Popen[str], what: Any) -> None:
    process.stdin.write(orjson.dumps(what).decode() + "\n")
    process.stdin.flush()


@contextlib.contextmanager
def gateways(document: dict[str, Any], processes: int):
    """So many gateways, which serve the same document for as long as the block lasts."""
    command = [sys.executable, "-m", "tests.bench.gateway"]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(processes)
        ]
        for process in started:
            tell(process, document)
        for process in started:
            assert process.stdout.readline(), "it could not begin"
        yield started


if __name__ == "__main__":
    import uvloop

    uvloop.run(obey())
