"""What many runs at once need, and many runs one after the other; and what the library needs that only was imported."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.alone import alone
from tests.bench.loopback import provider
from tests.bench.report import Blocks, at_least, at_most

AT_ONCE = 10_000
AT_ONCE_ROUNDS = 3
RUNS, RUNS_IN_FULL = 50_000, 1_000_000
IMPORTS = 11

BARE, OURS = "bare aiohttp", "Standby"
IMPORT = """
import time
began = time.process_time()
import standby.runner
took = time.process_time() - began
import psutil
print(took * 1000, psutil.Process().memory_info().rss / 2**20)
"""


def test_memory_of_ten_thousand_runs_in_flight(report):
    """At most 12 KB each above the bare calls; and the runner keeps none of them for more than 5 ms itself."""
    measured = {BARE: [], OURS: []}
    with provider() as url:
        for _ in range(AT_ONCE_ROUNDS):
            for name, who in ((BARE, "bare"), (OURS, "standby")):
                measured[name].append(alone("in_flight", url, who, AT_ONCE))
    each = Blocks({name: [one["each"] for one in rounds] for name, rounds in measured.items()})
    own = Blocks({OURS: [one["own_p99"] for one in measured[OURS]]})
    report.table(f"{AT_ONCE:,} calls in flight, memory of each", "KB", each, beside=BARE)
    report.table(f"{AT_ONCE:,} calls in flight, 99th percentile of the runner's own time", "ms", own)
    report.must(
        at_most(12, "a run in flight, above the bare call", each.median(OURS) - each.median(BARE), "KB"),
        at_most(5, "99th percentile of the runner's own time", own.median(OURS), "ms"),
    )


def test_memory_of_many_runs(report, full):
    """It does not grow: by the end no more than 5 % over what it was after a fifth, and no less."""
    count = RUNS_IN_FULL if full else RUNS
    with provider() as url:
        looks = alone("memory", url, count)
    fifth = looks[len(looks) // 5 - 1 :]
    report.table(
        f"Memory while it does {count:,} runs",
        "MB",
        Blocks({f"after {(n + 1) * 100 // len(looks)} %": [each / 1024] for n, each in enumerate(looks)}),
    )
    report.must(
        at_most(1.05, f"most memory beside that after a fifth of {count:,} runs", max(fifth) / fifth[0]),
        at_least(0.95, f"least memory beside that after a fifth of {count:,} runs", min(fifth) / fifth[0]),
    )


def test_memory_and_time_of_the_import(report, tmp_path):
    """`import standby.runner` where it was imported before: at most 150 ms and 45 MB.

    Compiled, as what is installed is, wherever this machine keeps that. The least of a few: what else it does only adds.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    told = []
    for _ in range(IMPORTS):
        command = [sys.executable, "-c", IMPORT]
        said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        told.append([float(each) for each in said.split()])
    milliseconds, megabytes = (min(column) for column in zip(*told, strict=True))
    report.must(
        at_most(150, "import standby.runner, CPU", milliseconds, "ms"),
        at_most(45, "import standby.runner, memory", megabytes, "MB"),
    )
