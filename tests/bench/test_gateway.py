"""What `standby serve` lets through, and how long it takes, beside the bare libraries as a gateway.

The gateways, the provider and the load share the machine's cores. Where it has but two, one worker has a core to itself
and two have not: they share both with what the load and the provider need.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from tests.bench.documents import document
from tests.bench.load import fast, paced
from tests.bench.loopback import provider
from tests.bench.measuring import IN_FLIGHT, alternate
from tests.bench.report import Blocks, at_least
from tests.bench.servers import pass_through, standby

ROUNDS = 8
PACED_ROUNDS = 4
PER_SECOND = 300

BARE, ONE, TWO = "bare Starlette + aiohttp", "Standby, one worker", "Standby, two workers"
FAILING_OVER = "Standby, a 500 and then an answer"
PERCENTILES = {"50th": 0.5, "99th": 0.99, "99.9th": 0.999}


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def test_gateway_requests_per_second(report, tmp_path):
    """One worker beside the bare libraries, two beside one, and one whose first candidate fails each time."""
    with ExitStack() as stack:
        url = stack.enter_context(provider())
        gateways = {
            BARE: stack.enter_context(pass_through(url)),
            ONE: stack.enter_context(standby(document(url), tmp_path)),
            TWO: stack.enter_context(standby(document(url), tmp_path, workers=2)),
            FAILING_OVER: stack.enter_context(standby(document(url, failing=1), tmp_path)),
        }
        measured = asyncio.run(alternate({name: fast(each) for name, each in gateways.items()}, ROUNDS))
    rates, costs = (Blocks({name: [each[n] for each in rounds] for name, rounds in measured.items()}) for n in (0, 1))
    report.table(f"Gateways at {IN_FLIGHT} connections", "requests/s", rates, beside=BARE)
    report.table("CPU of a gateway for each request", "ms", costs, beside=BARE)
    report.must(
        at_least(0.6, "one worker, beside bare Starlette + aiohttp: requests/s", rates.times(ONE, BARE)),
        at_least(1.6, "two workers, beside one: requests/s", rates.times(TWO, ONE)),
    )


def test_gateway_latency(report, tmp_path):
    """Printed: percentiles where requests come evenly, whether those before them were answered or not."""
    with ExitStack() as stack:
        url = stack.enter_context(provider())
        gateways = {
            BARE: stack.enter_context(pass_through(url)),
            ONE: stack.enter_context(standby(document(url), tmp_path)),
        }
        measured = asyncio.run(
            alternate({name: paced(each, PER_SECOND) for name, each in gateways.items()}, PACED_ROUNDS)
        )
    for told, share in PERCENTILES.items():
        blocks = Blocks({name: [percentile(took, share) for took in rounds] for name, rounds in measured.items()})
        report.table(f"{told} percentile of latency at {PER_SECOND} requests/s", "ms", blocks, beside=BARE)
