"""What an answer says of its run: the headers, on success and on error."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standby.proxy._answers import trail_of
from standby.runner import Failure, RunRecord, Try, classify
from standby.runner.testing import Fail, Slow, answer
from tests.proxy.conftest import error_of, serving
from tests.proxy.structured import parsed_list

pytestmark = pytest.mark.anyio

BROKEN = Fail("server_error", "It broke.", status=503, retryable=True)
REFUSED = Fail("bad_request", "No such field.", status=400)


def standby_headers(response):
    """Our headers, without the names' common beginning, and without the run's id."""
    begin = "x-standby-"
    found = {name.removeprefix(begin): value for name, value in response.headers.items() if name.startswith(begin)}
    del found["run-id"]
    return found


async def test_success_at_once():
    """A run that needs one try says who served."""
    async with serving({"primary": [], "backup": []}) as proxy:
        response = await proxy.chat()
    assert response.status_code == 200
    assert standby_headers(response) == {
        "candidate": "primary",
        "attempts": "1",
        "failovers": "0",
        "queued-ms": "0",
        "trail": "primary;n=1;outcome=ok",
    }


async def test_success_after_failures():
    """Every try is in the trail, with what was decided about it and by which rule."""
    policy = {"failoverPolicy": {"allowCategories": ["provider_5xx"]}}
    scripts = {"primary": [BROKEN], "backup": []}
    async with serving(scripts, policy=policy, retry={"maxAttempts": 2}) as proxy:
        response = await proxy.chat()
    assert response.status_code == 200
    assert standby_headers(response) == {
        "candidate": "backup",
        "attempts": "3",
        "failovers": "1",
        "queued-ms": "0",
        "trail": "primary;n=1;outcome=provider_5xx;status=503;decision=retry;rule=client_retryable, "
        "primary;n=2;outcome=provider_5xx;status=503;decision=next;rule=failover_allow_policy, "
        "backup;n=1;outcome=ok",
    }


async def test_failure():
    """A run that fails says the same of itself, but that nobody served."""
    async with serving({"primary": [BROKEN], "backup": [REFUSED]}) as proxy:
        response = await proxy.chat()
    assert response.status_code == 400
    assert standby_headers(response) == {
        "attempts": "2",
        "failovers": "1",
        "queued-ms": "0",
        "trail": "primary;n=1;outcome=provider_5xx;status=503;decision=next;rule=client_retryable, "
        "backup;n=1;outcome=request_error;status=400;decision=stop;rule=client_non_retryable",
    }


async def test_failure_without_an_answer():
    """A try to which nobody answered has no status in the trail."""
    async with serving({"primary": [Fail("network", "Refused.", retryable=True)]}) as proxy:
        response = await proxy.chat()
    assert response.headers["x-standby-trail"] == "primary;n=1;outcome=network;decision=next;rule=client_retryable"


async def test_refused_before_anything_is_sent():
    """A request that is refused before its run begins was sent nowhere, and says so."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.chat(model="ghost")
    assert response.status_code == 404
    assert standby_headers(response) == {"attempts": "0", "failovers": "0", "queued-ms": "0"}


async def test_time_in_the_queue():
    """`x-standby-queued-ms` is how long the run waited for local capacity."""
    scripts = {"primary": [Slow(2.5), answer()]}
    async with serving(scripts, limits={"concurrency": 1}) as proxy, anyio.create_task_group() as tasks:
        tasks.start_soon(proxy.chat)
        while not proxy.clients["primary"].calls:
            await anyio.lowlevel.checkpoint()
        response = await proxy.chat()
    assert response.headers["x-standby-queued-ms"] == "2500"


async def test_ids_that_are_not_tokens():
    """A candidate's id that is no token of RFC 8941 is written as a string."""
    async with serving({"4o": [BROKEN], "-eu": [BROKEN], "eu:a_b.c-1": []}) as proxy:
        response = await proxy.chat()
    assert response.headers["x-standby-candidate"] == "eu:a_b.c-1"
    assert parsed_list(response.headers["x-standby-trail"]) == [
        ("4o", {"n": 1, "outcome": "provider_5xx", "status": 503, "decision": "next", "rule": "client_retryable"}),
        ("-eu", {"n": 1, "outcome": "provider_5xx", "status": 503, "decision": "next", "rule": "client_retryable"}),
        ("eu:a_b.c-1", {"n": 1, "outcome": "ok"}),
    ]
    assert response.headers["x-standby-trail"].startswith('"4o";n=1')


IDS = st.from_regex(r"\A[A-Za-z0-9_.:-]{1,128}\Z")
FAILED = Failure(classify("server_error", "", 503), True, None, "candidate", "unknown", "", Exception())


@settings(deadline=None, max_examples=50)
@given(ids=st.lists(IDS, min_size=1, max_size=60))
def test_every_trail_is_a_list(ids):
    """Whatever the ids, the trail is a list of RFC 8941, bounded, and ends with the last try."""
    record = RunRecord("r", "chat", 1, 0.0, tries=[Try(name, 1, 0.0, 0.0, FAILED, did="next") for name in ids])
    trail = trail_of(record)
    told = [item for item, _ in parsed_list(trail.replace(";rule=", ""))]
    assert told == ids[-len(told) :]
    assert len(trail) <= 4096


@pytest.mark.parametrize("given", ["a", "0", "my-run.7_of:9", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "x" * 64])
async def test_valid_run_id_is_kept(given):
    """A caller's valid id is the run's: in the header, the record and the message of an error."""
    async with serving({"primary": [answer(), BROKEN]}) as proxy:
        fine, broken = [await proxy.chat({"x-standby-run-id": given}) for _ in range(2)]
        record = await proxy.runner.history.get(given)
    assert fine.headers["x-standby-run-id"] == given
    assert record is not None
    assert error_of(broken)["message"].endswith(f" (run {given})")


@pytest.mark.parametrize("given", ["", " ", "-a", "a b", "x" * 65, "é", "a/b", "a\tb", 'a"b', "a,b", "../a"])
async def test_invalid_run_id_is_replaced(given):
    """Anything else is not repeated anywhere: the run gets an id of its own."""
    async with serving({"primary": [BROKEN]}) as proxy:
        response = await proxy.chat({"x-standby-run-id": given.encode("latin-1")})
        made = response.headers["x-standby-run-id"]
        assert made.startswith("run_")
        assert error_of(response)["message"].endswith(f" (run {made})")
        assert await proxy.runner.history.get(made) is not None


async def test_run_ids_are_new():
    """Every request has its own."""
    async with serving({"primary": []}) as proxy:
        made = {(await proxy.chat()).headers["x-standby-run-id"] for _ in range(10)}
    assert len(made) == 10
