"""One process of many: a gateway that does what it is told.

``python -m tests.processes.driver PATH`` imports what is needed once, and becomes one more process for everybody who
connects to the socket there. Each line is a command, ``[number, name, arguments]``, and each line back ``[number,
result, error]``; commands are done at the same time. A process that nobody is connected to any more ends.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict

from standby.clients import HttpPool
from standby.runner import Request, RunFailed, open_gateway
from standby.runner._clock import SystemClock
from standby.store import Disable, Standing
from standby.store._valkey import ValkeyState
from standby.store._valkey_limits import ValkeyLimits
from standby.store.sql import open_sql

REQUEST = Request("chat", {"messages": [{"role": "user", "content": "Hello."}]})
assert open_sql  # imported here, for all


class Process:
    """Its public methods are the commands."""

    def __init__(self, stack):
        self._stack = stack
        self._ended = []  # the run's id, and who answered or how it ended
        self._callers = []
        self._over = False

    async def open(self, document, wait_seconds, ahead_seconds=0.0, alive_seconds=None):
        """A gateway that waits for Valkey for so long, and whose clock is ahead.

        Others believe it to be dead when it has been silent for ``alive_seconds``.
        """
        ValkeyState.__init__.__kwdefaults__["commit_wait_seconds"] = wait_seconds
        self._clock = lambda: time.time() + ahead_seconds
        SystemClock.epoch = staticmethod(self._clock)
        ValkeyState.__init__.__kwdefaults__["clock"] = self._clock
        if alive_seconds is not None:
            ValkeyLimits.__init__.__kwdefaults__["alive_seconds"] = alive_seconds
        pool = await self._stack.enter_async_context(HttpPool(trust_env=False))
        gateway = await self._stack.enter_async_context(open_gateway(document, http=pool))
        self._runner = gateway.runner

    async def pid(self):
        return os.getpid()

    async def run(self, runs=1, at_once=1):
        """So many runs: how many each candidate answered, and how many failed, by their ends."""
        before, left = len(self._ended), iter(range(runs))

        async def caller():
            for _ in left:
                await self._one()

        await asyncio.gather(*(caller() for _ in range(at_once)))
        return Counter(end for _, end in self._ended[before:])

    async def _one(self):
        try:
            record = (await self._runner.run(REQUEST)).record
        except RunFailed as failed:
            self._ended.append((failed.record.run_id, failed.record.ending))
        else:
            self._ended.append((record.run_id, record.tries[-1].candidate))

    async def begin(self, callers=2):
        """Callers that run one after the other, all the time."""

        async def caller():
            while not self._over:
                await self._one()
                await asyncio.sleep(0.005)

        self._callers = [asyncio.create_task(caller()) for _ in range(callers)]

    async def more(self, runs):
        """Return when so many more runs have ended."""
        enough = len(self._ended) + runs
        await until(lambda: len(self._ended) >= enough)

    async def end(self):
        """Nobody runs any more; the id of every run, and how it ended."""
        self._over = True
        await asyncio.gather(*self._callers)
        return self._ended

    async def disable(self, domain):
        await self._runner.state.apply([Disable(domain, self._clock(), "ann", "closed")])

    async def standing(self, domain):
        return asdict(self._known(domain))

    def _known(self, domain):
        return self._runner.state.standing(domain) or Standing()

    async def until(self, domain, **fields):
        """Return when the standing is so."""
        await until(lambda: fields.items() <= asdict(self._known(domain)).items())

    async def until_trouble(self):
        """Return when it has noticed that something is the matter with the stores."""
        await until(self._runner.troubles)

    async def settled(self):
        """Return when everything is written, and nothing is the matter with the stores; how much was given up."""
        state, history = self._runner.state, self._runner.history
        await until(lambda: not (list(state.writer) or list(history.writer) or self._runner.troubles()))
        return state.dropped + history.dropped


async def until(holds):
    while not holds():  # noqa: ASYNC110 - it comes from anywhere
        await asyncio.sleep(0.005)


async def serve(connection):
    reader, writer = await asyncio.open_unix_connection(sock=connection)

    def answer(*line):
        writer.write(json.dumps(line).encode() + b"\n")

    async with AsyncExitStack() as stack:
        process = Process(stack)

        async def do(number, name, arguments):
            try:
                answer(number, await getattr(process, name)(**arguments), None)
            except Exception:  # noqa: BLE001 - it fails the test
                answer(number, None, traceback.format_exc())

        tasks = set()
        while line := await reader.readline():
            tasks.add(asyncio.create_task(do(*json.loads(line))))
        for task in [*tasks, *process._callers]:
            task.cancel()
    writer.close()


def main(path):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        print("ready", flush=True)
        while True:
            connection, _ = door.accept()
            if not os.fork():
                door.close()
                asyncio.run(serve(connection))
                os._exit(0)
            connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
