"""What others need for the same calls. They have packages of their own: `make bench-peers` installs them in `.bench`.

As they are used by default, but that nothing is repeated, nobody is left out for failing, and nothing is fetched.
"""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import AsyncExitStack, ExitStack, contextmanager

import orjson
import pytest

from tests.bench.documents import ASKED, document
from tests.bench.load import fast
from tests.bench.loopback import provider
from tests.bench.measuring import IN_FLIGHT, alternate, cpu_each
from tests.bench.report import Blocks, at_least
from tests.bench.servers import PEERS, PORTKEY, litellm_proxy, pass_through, portkey, standby
from tests.bench.test_library import BARE, ONE, bare, runs

CALLS = 96
ROUNDS = 6
ROUTER = "LiteLLM Router"

needs_peers = pytest.mark.skipif(
    not (PEERS / ".ready").exists(), reason="`make bench-peers` installs LiteLLM and openai's SDK"
)
needs_portkey = pytest.mark.skipif(not PORTKEY.exists(), reason="`make bench-peers` installs Portkey where npm is")


@contextmanager
def peers(url):
    """A block for each peer: milliseconds of its processor's time for one call."""
    command = [str(PEERS / "bin/python"), "tests/bench/peer.py", url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:

        def tell(*what):
            process.stdin.write(orjson.dumps(what).decode() + "\n")
            process.stdin.flush()
            return orjson.loads(process.stdout.readline())

        def block(name):
            async def measured():
                return await asyncio.to_thread(tell, name, ASKED, CALLS, IN_FLIGHT)

            return measured

        yield {name: block(name) for name in orjson.loads(process.stdout.readline())}
        process.stdin.close()


@needs_peers
def test_peers_library(report):
    """LiteLLM's Router takes at least 25 times the processor's time of a run here."""

    async def measured():
        async with AsyncExitStack() as stack:
            url = stack.enter_context(provider())
            ours = {BARE: (await bare(url, stack))[BARE], ONE: await runs(url, stack)}
            blocks = {name: cpu_each(call, 10 * CALLS) for name, call in ours.items()}
            return Blocks(await alternate({**blocks, **stack.enter_context(peers(url))}, ROUNDS))

    blocks = asyncio.run(measured())
    report.table(f"CPU of one call, {IN_FLIGHT} in flight, beside peers", "ms", blocks, beside=ONE)
    report.must(at_least(25, "LiteLLM's Router, beside a first try", blocks.times(ROUTER, ONE)))


def rates_beside(report, name, own, its):
    """Requests a second of bare libraries, ours and another gateway; and where the first provider fails each time."""
    with ExitStack() as stack:
        url = stack.enter_context(provider())
        gateways = {
            "bare Starlette + aiohttp": pass_through(url),
            "Standby": own(document(url)),
            name: its(url),
            "Standby, failing over": own(document(url, failing=1)),
            f"{name}, failing over": its(url, failing=True),
        }
        blocks = {each: fast(stack.enter_context(gateway)) for each, gateway in gateways.items()}
        measured = asyncio.run(alternate(blocks, ROUNDS))
    rates = Blocks({each: [rate for rate, _ in rounds] for each, rounds in measured.items()})
    report.table(f"Gateways at {IN_FLIGHT} connections, beside {name}", "requests/s", rates, beside=name)
    return rates.times("Standby", name)


@needs_portkey
def test_peers_portkey(report, tmp_path):
    """Portkey's gateway, which is written for Node, lets through less than a 2.5th."""
    times = rates_beside(report, "Portkey", lambda each: standby(each, tmp_path), portkey)
    report.must(at_least(2.5, "one worker, beside Portkey: requests/s", times))


@needs_peers
def test_peers_litellm_proxy(report, tmp_path):
    """LiteLLM's proxy lets through less than a 20th."""

    def its(url, *, failing=False):
        return litellm_proxy(url, tmp_path, failing=failing)

    times = rates_beside(report, "LiteLLM proxy", lambda each: standby(each, tmp_path), its)
    report.must(at_least(20, "one worker, beside LiteLLM's proxy: requests/s", times))
