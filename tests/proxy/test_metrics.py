"""`GET /metrics`: what was counted as runs ended, and what stands now, as Prometheus reads it."""

import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from standby.clients import Usage
from standby.proxy._counts import BUCKETS, Histogram
from standby.proxy._readings import METRICS
from standby.runner import Response
from standby.runner.testing import EPOCH, Fail, Slow, Streamed, answer
from standby.store import MemoryState
from tests.proxy.conftest import serving
from tests.proxy.test_queue import limit_the_key

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
PAGE = Path(__file__).parent.parent.parent / "docs/metrics.md"
LABELS = {metric.name.removesuffix("_total"): metric.labels for metric in METRICS}
WORDS_OF_OTHERS = "nobody-says-this-but-a-caller"


async def scraped(proxy):
    """What is told: by the metric's name, and the values of its labels in the order of the documentation."""
    response = await proxy.get("/metrics")
    assert response.status_code == 200
    return told_in(response.text)


def told_in(text, *more_labels):
    told = {}
    for family in parser.text_string_to_metric_families(text):
        labels = [*LABELS[family.name], *more_labels]
        for sample in family.samples:
            name = sample.name.removeprefix("standby_")
            values = " ".join(sample.labels[label] for label in [*labels, "le"] if label in sample.labels)
            assert values not in told.setdefault(name, {}), f"{name} {values} is told twice"
            told[name][values] = sample.value
    return told


def histogram(told, name, labels):
    """How many there are, their seconds together, and the least bound that all of them are within."""
    count = told[f"{name}_count"][labels]
    buckets = told[f"{name}_bucket"].items()
    bounds = (float(values.split()[-1]) for values, inside in buckets if values.startswith(labels) and inside == count)
    return count, told[f"{name}_sum"][labels], min(bounds)


# -- what is counted


async def test_runs_are_counted_by_their_ending():
    """A run that was answered, and one that nobody answered."""
    async with serving({"primary": [answer(), DOWN]}) as proxy:
        for _ in range(2):
            await proxy.chat()
        assert (await scraped(proxy))["runs_total"] == {"chat answered": 1, "chat exhausted": 1}


async def test_a_run_whose_caller_left_is_abandoned():
    """It is counted when it is over, and so is its call."""
    async with serving({"primary": [Slow(60)]}) as proxy:
        with anyio.move_on_after(1):
            await proxy.chat()
        told = await scraped(proxy)
    assert told["runs_total"] == {"chat abandoned": 1}
    assert told["attempts_total"] == {"chat primary abandoned": 1}


async def test_a_run_under_way_is_in_progress():
    """And is counted as nothing else yet."""
    async with serving({"primary": [Slow(60)]}) as proxy, anyio.create_task_group() as tasks:
        tasks.start_soon(proxy.chat)
        await anyio.sleep(1)
        told = await scraped(proxy)
    assert told["runs_in_progress"] == {"": 1}
    assert "runs_total" not in told


async def test_calls_are_counted_by_their_outcome():
    """Each candidate's: `ok`, or the category of the failure; and what was decided is counted by its reason."""
    async with serving({"primary": [DOWN], "backup": []}) as proxy:
        await proxy.chat()
        told = await scraped(proxy)
    assert told["attempts_total"] == {"chat primary provider_5xx": 1, "chat backup ok": 1}
    assert told["failovers_total"] == {"chat primary client_retryable": 1}


async def test_retries_are_counted():
    """Failures after which the same candidate was tried again, which are no failovers."""
    async with serving({"primary": [DOWN, answer()]}, retry={"maxAttempts": 2}) as proxy:
        await proxy.chat()
        told = await scraped(proxy)
    assert told["retries_total"] == {"chat primary": 1}
    assert "failovers_total" not in told


async def test_refused_retries_are_counted():
    """By what the retry budget says; they are no retries."""
    budget = {"retryBudget": {"capacity": 1}}
    async with serving({"primary": [DOWN]}, retry={"maxAttempts": 2}, policy=budget) as proxy:
        await proxy.chat()
        told = await scraped(proxy)
    assert told["retries_refused_total"] == {"chat primary retry_budget_exhausted": 1}
    assert "retries_total" not in told


async def test_hedges_are_counted():
    """As calls of whoever was asked beside another; who was too slow is abandoned."""
    async with serving({"primary": [Slow(60)], "backup": []}, model={"hedge": {"afterSeconds": 2}}) as proxy:
        await proxy.chat()
        told = await scraped(proxy)
    assert told["hedges_total"] == {"chat backup": 1}
    assert told["attempts_total"] == {"chat primary abandoned": 1, "chat backup ok": 1}


async def test_skips_are_counted_by_their_reason():
    """Who is left out is passed by, and so is who has no local capacity; neither is a call."""
    scripts = {"primary": [], "middle": [Slow(60)], "backup": []}
    async with serving(scripts, limits={"concurrency": 1}) as proxy, anyio.create_task_group() as tasks:
        await proxy.post("/admin/candidates/primary/disable")
        tasks.start_soon(proxy.chat)
        await anyio.sleep(1)
        await proxy.chat()
        told = await scraped(proxy)
    assert told["skips_total"] == {"chat primary disabled": 1, "chat middle capacity": 1}
    assert told["attempts_total"] == {"chat backup ok": 1}


async def test_tokens_are_counted_as_the_provider_counts_them():
    """Of whoever answered; where nothing was counted, nothing is added."""
    said = answer()
    counted = Response(said.status, said.headers, said.content, said.data, Usage(12, 30))
    uncounted = Response(said.status, said.headers, said.content, said.data, None)
    async with serving({"primary": [counted, counted, uncounted]}) as proxy:
        for _ in range(3):
            await proxy.chat()
        told = await scraped(proxy)
    assert told["tokens_total"] == {"chat primary prompt": 24, "chat primary completion": 60}


async def test_nothing_that_a_caller_says_is_told():
    """Not a model that there is none of, nor the run's id, nor a key or its name: what is told stays bounded."""
    server = {"keys": [{"name": WORDS_OF_OTHERS, "key": WORDS_OF_OTHERS}]}
    headers = {"authorization": f"Bearer {WORDS_OF_OTHERS}", "x-standby-run-id": WORDS_OF_OTHERS}
    async with serving({"primary": []}, server=server) as proxy:
        assert (await proxy.chat(headers)).status_code == 200
        assert (await proxy.chat(headers, model=WORDS_OF_OTHERS)).status_code == 404
        assert (await proxy.chat({**headers, "x-standby-candidates": WORDS_OF_OTHERS})).status_code == 400
        assert WORDS_OF_OTHERS not in (await proxy.get("/metrics")).text
        assert (await scraped(proxy))["runs_total"] == {"chat answered": 1}


# -- how long it took


async def test_how_long_a_run_took():
    """From its beginning to its answer, with the failover in it; runs that nobody answered are no part of it."""
    async with serving({"primary": [Slow(3.5, DOWN), DOWN], "backup": [Slow(2), DOWN]}) as proxy:
        await proxy.chat()
        await proxy.chat()
        told = await scraped(proxy)
    assert histogram(told, "run_duration_seconds", "chat") == (1, pytest.approx(5.5), 10.0)
    assert histogram(told, "attempt_duration_seconds", "chat backup") == (1, pytest.approx(2), 2.5)
    assert [*told["attempt_duration_seconds_count"]] == ["chat backup"]
    assert "time_to_first_content_seconds_count" not in told  # only a stream has one


async def test_how_long_the_first_content_of_a_stream_took():
    """From the call of whoever had it, not of those before; call and run last until the stream is complete."""
    async with serving({"primary": [Slow(4, DOWN)], "backup": [Streamed(2, "Hel", 5, "lo")]}) as proxy:
        await proxy.chat(stream=True)
        told = await scraped(proxy)
    assert histogram(told, "time_to_first_content_seconds", "chat backup") == (1, pytest.approx(2), 2.5)
    assert histogram(told, "attempt_duration_seconds", "chat backup") == (1, pytest.approx(7), 10.0)
    assert histogram(told, "run_duration_seconds", "chat") == (1, pytest.approx(11), 20.0)
    assert [*told["time_to_first_content_seconds_count"]] == ["chat backup"]


async def test_a_stream_that_breaks_had_a_first_content():
    """It is told though the run was interrupted; how long that took is no answer's time."""
    cut = Fail("stream_read_error", "cut", status=200, retryable=True, work="billed")
    async with serving({"primary": [Streamed(2, "Hel", cut)]}) as proxy:
        await proxy.chat(stream=True)
        told = await scraped(proxy)
    assert told["runs_total"] == {"chat interrupted": 1}
    assert told["time_to_first_content_seconds_count"] == {"chat primary": 1}
    assert "run_duration_seconds_count" not in told
    assert "attempt_duration_seconds_count" not in told


async def test_how_long_runs_waited():
    """For local capacity: those that did, and how many do so now."""
    async with serving({"primary": [Slow(4)]}, limits={"concurrency": 1}) as proxy:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(proxy.chat)
            tasks.start_soon(proxy.chat)
            await anyio.sleep(1)
            waiting = await scraped(proxy)
        told = await scraped(proxy)
    assert waiting["queue_waiting_runs"] == {"chat": 1}
    assert told["queue_waiting_runs"] == {"chat": 0}
    assert histogram(told, "queue_wait_seconds", "chat") == (1, pytest.approx(4), 5.0)


def test_a_bucket_holds_its_bound():
    """At most so long, as Prometheus has it; what is longer than the longest bound is counted all the same."""
    histogram = Histogram()
    for seconds in (0.0, BUCKETS[0], BUCKETS[1], BUCKETS[-1] + 1):
        histogram.observe(seconds)
    assert (histogram.cumulated()[:3], histogram.cumulated()[-2:]) == ([2, 3, 3], [3, 4])


# -- what stands now


async def test_the_status_of_a_candidate_is_one_of_five():
    """1 for what it is, 0 for the others; and whose it is."""
    async with serving({"primary": [], "middle": [Slow(9)], "backup": []}) as proxy, anyio.create_task_group() as tasks:
        await proxy.post("/admin/candidates/primary/disable")
        await proxy.post("/admin/candidates/middle/cool", seconds=30)
        cooling = await scraped(proxy)
        await anyio.sleep(31)
        half_open = await scraped(proxy)
        tasks.start_soon(proxy.chat)
        await anyio.sleep(1)
        probing = await scraped(proxy)
    now = [{each for each, one in told["candidate_status"].items() if one} for told in (cooling, half_open, probing)]
    others = {"chat primary disabled", "chat backup usable"}
    assert now == [others | {f"chat middle {status}"} for status in ("cooling", "half_open", "probing")]
    assert len(cooling["candidate_status"]) == 15
    assert cooling["candidate_cooldowns_in_row"]["chat middle"] == 1
    assert "chat middle middle m" in cooling["candidate_info"]


async def test_what_a_failure_leaves_behind():
    """The demotion in the effective priority, and the tokens that a retry took of its budget."""
    policy = {
        "priorityDemotePolicy": {"enabled": True, "categories": ["provider_5xx"], "demoteStep": 40},
        "retryBudget": {"capacity": 50},
    }
    async with serving({"primary": [DOWN], "backup": []}, policy=policy, retry={"maxAttempts": 2}) as proxy:
        before = await scraped(proxy)
        await proxy.chat()
        after = await scraped(proxy)
    assert before["candidate_effective_priority"] == {"chat primary": 100, "chat backup": 101}
    assert after["candidate_effective_priority"] == {"chat primary": 140, "chat backup": 101}
    assert before["candidate_retry_budget_tokens"] == {"chat primary": 50, "chat backup": 50}
    assert after["candidate_retry_budget_tokens"] == {"chat primary": 36, "chat backup": 50}


async def test_of_several_retry_budgets_the_poorest_is_told():
    """A retry is paid for by the domain that the failure concerns: here once by the candidate, once by its key."""
    scopes = {"scopes": {"auth_error": "credential"}, "retryBudget": {"capacity": 50}}
    denied = Fail("auth_failed", "no", status=401, retryable=True, work="rejected")
    async with serving({"primary": [DOWN, denied, DOWN]}, policy=scopes, retry={"maxAttempts": 3}) as proxy:
        await proxy.chat()
        left = proxy.runner.statuses()[0].retry_budget
        told = await scraped(proxy)
    assert sorted(left.values()) == [36, 45]
    assert told["candidate_retry_budget_tokens"] == {"chat primary": 36}


async def test_a_retry_budget_that_is_off_is_not_told():
    """It has no tokens."""
    async with serving({"primary": []}, policy={"retryBudget": {"enabled": False}}) as proxy:
        assert "candidate_retry_budget_tokens" not in await scraped(proxy)


async def test_limits_and_how_much_of_them_is_used():
    """The candidate's own, and its key's; what is not limited is not told."""
    own = {"concurrency": 4, "tokensPerMinute": 1000}
    async with serving({"primary": [Slow(9)]}, limits=own) as proxy, anyio.create_task_group() as tasks:
        limit_the_key(proxy, "primary", requestsPerMinute=60)
        tasks.start_soon(lambda: proxy.chat(max_tokens=100))
        await anyio.sleep(1)
        told = await scraped(proxy)
    assert told["candidate_limit"] == {"chat primary concurrency": 4, "chat primary tokens_per_minute": 1000}
    assert told["candidate_limit_used"]["chat primary concurrency"] == 1
    assert 100 < told["candidate_limit_used"]["chat primary tokens_per_minute"] < 200
    assert told["key_limit"] == {"primary requests_per_minute": 60}
    assert told["key_limit_used"] == {"primary requests_per_minute": 1}


async def test_a_store_in_trouble():
    """Which part it is, since when, and what waits to be written or was given up."""
    state = MemoryState()
    async with serving({"primary": []}, state=state) as proxy:
        well = await scraped(proxy)
        state.trouble, state.trouble_since, state.pending, state.dropped = "the disk is full", EPOCH, 7, 2
        told = await scraped(proxy)
    assert well["store_trouble"] == {"catalog": 0, "state": 0, "history": 0}
    assert told["store_trouble"] == {"catalog": 0, "state": 1, "history": 0}
    assert told["store_trouble_since_timestamp_seconds"] == {"state": EPOCH}
    assert told["store_pending_writes"] == {"state": 7}
    assert told["store_dropped_writes_total"] == {"state": 2}
    assert not {"store_trouble_since_timestamp_seconds", "store_pending_writes"} & well.keys()


async def test_the_catalogs_version():
    """That of the newest, which new runs have."""
    async with serving({"primary": []}) as proxy:
        before = (await scraped(proxy))["catalog_version"][""]
        proxy.runner.catalog.replace(proxy.runner.catalog.snapshot())
        assert (await scraped(proxy))["catalog_version"] == {"": before + 1}


# -- how it is told


async def test_the_form_is_negotiated():
    """Prometheus's text, and OpenMetrics for whoever prefers it; both say the same."""
    async with serving({"primary": [answer(), DOWN]}) as proxy:
        await proxy.chat()
        plain = await proxy.get("/metrics")
        modern = await proxy.get("/metrics", accept="application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    read = [
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
        for families in (
            parser.text_string_to_metric_families(plain.text),
            openmetrics_parser.text_string_to_metric_families(modern.text),
        )
    ]
    assert read[0] == read[1]


async def test_two_applications_in_one_process():
    """Each has its own numbers: nothing is global."""
    async with serving({"primary": []}) as one, serving({"primary": []}) as other:
        await one.chat()
        assert (await scraped(one))["runs_total"] == {"chat answered": 1}
        assert "runs_total" not in await scraped(other)


def test_a_server_that_is_not_asked_does_not_import_the_library():
    """It is imported when somebody asks for the first time."""
    code = "import sys, standby.proxy; print('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"False\n"


def test_the_documentation_names_them_all():
    """In the same order, with their labels, types and meanings."""
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `standby_")
    ]
    labels = {metric.name: "`, `".join(metric.labels) for metric in METRICS}
    assert rows == [[metric.name, metric.type, labels[metric.name], metric.meaning] for metric in METRICS]
