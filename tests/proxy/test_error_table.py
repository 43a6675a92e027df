"""The error table of the HTTP contract, line by line, for what happens once a run has begun."""

import anyio
import pytest

from standby.runner.testing import Fail, Slow
from tests.proxy.conftest import error_of, refused, serving

pytestmark = pytest.mark.anyio

BROKEN = Fail("server_error", "It broke.", status=500, retryable=True)
TOO_OFTEN = Fail("rate_limit", "Slow down.", status=429, retryable=True, scope="credential_model")
VENDOR = {"message": "No such field: x.", "type": "bad_field", "code": "field_unknown", "param": "x"}
BAD_FIELD = Fail("bad_request", "No such field: x.", status=400, scope="request", vendor=VENDOR)
COOLS = {"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}, "cooldownSeconds": 60}}


def too_often(seconds):
    return Fail("rate_limit", "Slow down.", status=429, retryable=True, scope="credential_model", hint=seconds)


# -- the provider refused the request itself


async def test_refused_request_is_translated():
    """The provider's status, type, code, param and words reach the caller."""
    async with serving({"primary": [BAD_FIELD]}) as proxy:
        response = await proxy.chat()
    assert response.status_code == 400
    error = error_of(response)
    assert error.pop("message").startswith("No such field: x. (run ")
    assert error == {"type": "bad_field", "code": "field_unknown", "param": "x"}


@pytest.mark.parametrize("status", [404, 409, 413, 415, 422, 451])
async def test_refused_request_keeps_its_status(status):
    """So does any other status below 500 that is the request's own."""
    async with serving({"primary": [Fail("invalid_request", "No.", status=status, scope="request")]}) as proxy:
        response = await proxy.chat()
    assert refused(response) == (status, "invalid_request", None)


async def test_unsupported_model_is_translated():
    """A provider that has no such model, and nobody else to ask: 404 as the provider said."""
    async with serving({"primary": [Fail("unsupported_model", "No model m.", status=404)]}) as proxy:
        response = await proxy.chat()
    assert refused(response) == (404, "unsupported_model", None)


async def test_hard_stop_on_a_refusal_is_translated():
    """A hard stop on a 4xx shows the provider's own error, whatever its category."""
    policy = {"hardStopPolicy": {"statusCodes": [429]}}
    async with serving({"primary": [too_often(7)], "backup": []}, policy=policy) as proxy:
        response = await proxy.chat()
    assert refused(response) == (429, "rate_limit", None)
    assert response.headers["retry-after"] == "7"
    assert proxy.calls() == {"primary": 1, "backup": 0}


async def test_hard_stop_on_a_failure_of_the_provider():
    """A hard stop on anything else is no refusal of the request: 502."""
    policy = {"hardStopPolicy": {"statusCodes": [500]}}
    async with serving({"primary": [BROKEN], "backup": []}, policy=policy) as proxy:
        response = await proxy.chat()
    assert refused(response) == (502, "all_candidates_failed", None)


async def test_refusal_inside_of_a_success():
    """An error object that came with a 200 and refuses the request is answered with 400, never with 200."""
    error = Fail("invalid_request", "No such field.", status=200, scope="request")
    async with serving({"primary": [error]}) as proxy:
        response = await proxy.chat()
    assert refused(response) == (400, "invalid_request", None)


async def test_refusal_that_was_never_sent():
    """What our own client refuses on the provider's behalf has no status, and is 400."""
    async with serving({"primary": [Fail("unsupported_parameter", "No pictures.", scope="request")]}) as proxy:
        response = await proxy.chat()
    assert refused(response) == (400, "unsupported_parameter", None)


async def test_refused_content_with_403():
    """A filter's 403 concerns the request, not our credential, and is shown."""
    policy = {"hardStopPolicy": {"codes": ["content_filter"]}}
    error = Fail("content_filter", "Flagged.", status=403, scope="request")
    async with serving({"primary": [error]}, policy=policy) as proxy:
        response = await proxy.chat()
    assert refused(response) == (403, "content_filter", None)


# -- the provider refused us


@pytest.mark.parametrize(
    "error",
    [
        Fail("auth_failed", "Bad key.", status=401, scope="credential"),
        Fail("invalid_api_key", "Bad key.", status=400, scope="credential"),
        Fail("auth_failed", "Not yours.", status=403, scope="credential"),
        Fail("insufficient_balance", "Pay.", status=402, scope="credential"),
        Fail("permission_denied", "Not for you.", status=403, scope="credential"),
        Fail("timeout", "Who are you?", status=401),
        Fail("custom", "Pay the proxy.", status=402),
        Fail("custom", "Log in to the proxy.", status=407),
    ],
    ids=lambda error: f"{error.error.code}-{error.error.status}",
)
@pytest.mark.parametrize("policy", [{}, {"hardStopPolicy": {"keywords": ["e", "o"]}}], ids=["stop", "hard stop"])
async def test_credential_problem_is_502(error, policy):
    """What is wrong with our own credential is no business of the caller's, however the run stopped."""
    async with serving({"primary": [error]}, policy=policy) as proxy:
        response = await proxy.chat()
    assert refused(response) == (502, "all_candidates_failed", None)
    assert "www-authenticate" not in response.headers


async def test_operator_sees_the_credential_problem():
    """The run's record tells the operator what the caller was not told."""
    async with serving({"primary": [Fail("auth_failed", "Bad key.", status=401, scope="credential")]}) as proxy:
        run_id = (await proxy.chat()).headers["x-standby-run-id"]
        record = (await proxy.get(f"/admin/runs/{run_id}")).json()
    assert record["tries"][0]["failure"]["message"] == "Bad key."
    assert record["tries"][0]["failure"]["status"] == 401


# -- nobody answered


async def test_every_candidate_failed():
    """502, and the message says how each of them failed, not what it said."""
    network = Fail("network", "Refused by 10.0.0.7.", retryable=True)
    async with serving({"primary": [BROKEN], "backup": [network]}) as proxy:
        response = await proxy.chat()
    assert refused(response) == (502, "all_candidates_failed", None)
    message = error_of(response)["message"]
    assert message.startswith("No candidate answered (primary: provider_5xx, backup: network). (run ")


async def test_every_candidate_cannot_do_what_is_asked():
    """What is the request's fault is told with each, so that its caller can mend it."""
    cannot = Fail("unsupported_parameter", "gemini cannot do what is asked: seed", status=400, scope="request")
    policy = {"failoverPolicy": {"allowCategories": ["unsupported_model"]}}
    async with serving({"primary": [cannot], "backup": [BROKEN]}, policy=policy) as proxy:
        response = await proxy.chat()
    assert response.status_code == 502
    assert "(primary: unsupported_model, gemini cannot do what is asked: seed, backup: provider_5xx)" in response.text


async def test_stopped_after_a_failure_of_the_provider():
    """A decision to stop does not make a provider's failure the caller's: 502."""
    async with serving({"primary": [Fail("server_error", status=501)], "backup": []}) as proxy:
        response = await proxy.chat()
    assert refused(response) == (502, "all_candidates_failed", None)
    assert proxy.calls() == {"primary": 1, "backup": 0}


async def test_one_rate_limited_one_broken():
    """Not all of them were rate limited: 502."""
    async with serving({"primary": [TOO_OFTEN], "backup": [BROKEN]}) as proxy:
        response = await proxy.chat()
    assert response.status_code == 502
    assert "retry-after" not in response.headers


async def test_defect_of_a_client():
    """An exception that no client should raise is a failed try, and not a failed server."""
    async with serving({"primary": [KeyError("api_key sk-0123456789abcdef0123")]}) as proxy:
        response = await proxy.chat()
    assert response.status_code == 502
    assert "sk-0123456789" not in response.text


async def test_every_candidate_rate_limited():
    """429, with the earliest time at which one asked to be called again."""
    async with serving({"primary": [too_often(30)], "backup": [too_often(6.2)]}) as proxy:
        response = await proxy.chat()
    assert refused(response) == (429, "rate_limit_exceeded", None)
    assert response.headers["retry-after"] == "7"


async def test_every_candidate_rate_limited_and_cooled():
    """Where they are left out for a while, that while counts and not what they asked for."""
    async with serving({"primary": [too_often(200)], "backup": [TOO_OFTEN]}, policy=COOLS) as proxy:
        response = await proxy.chat()
    assert refused(response) == (429, "rate_limit_exceeded", None)
    assert response.headers["retry-after"] == "60"


async def test_one_rate_limited_one_cooling_down():
    """Rate limited, or cooling down for longer than a run waits: 429."""
    async with serving({"primary": [too_often(90)], "backup": []}, policy=COOLS) as proxy:
        await proxy.post("/admin/candidates/backup/cool", seconds=60)
        response = await proxy.chat()
    assert refused(response) == (429, "rate_limit_exceeded", None)
    assert response.headers["retry-after"] == "60"


async def test_rate_limited_and_nobody_says_for_how_long():
    """`Retry-After` is never missing from a 429."""
    async with serving({"primary": [TOO_OFTEN]}) as proxy:
        response = await proxy.chat()
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


async def test_rate_limited_without_failover():
    """A caller who wants no failover hears of the one candidate's rate limit."""
    async with serving({"primary": [TOO_OFTEN], "backup": []}, policy=COOLS) as proxy:
        response = await proxy.chat({"x-standby-no-failover": "1"})
    assert refused(response) == (429, "rate_limit_exceeded", None)
    assert response.headers["retry-after"] == "60"


async def test_hint_of_a_year():
    """What a provider asks for is not passed on without bounds."""
    async with serving({"primary": [too_often(31_536_000.0)]}) as proxy:
        response = await proxy.chat()
    assert response.headers["retry-after"] == "86400"


async def test_every_candidate_cooling_down():
    """429 with the end of the earliest cooldown, and nobody is called."""
    async with serving({"primary": [], "backup": []}, model={"queue": {"maxWaitSeconds": 1}}) as proxy:
        await proxy.post("/admin/candidates/primary/cool", seconds=50)
        await proxy.post("/admin/candidates/backup/cool", seconds=40)
        response = await proxy.chat()
    assert refused(response) == (429, "cooling_down", None)
    assert response.headers["retry-after"] == "40"
    assert proxy.calls() == {"primary": 0, "backup": 0}


async def test_one_cooling_down_one_disabled():
    """Somebody will be free: 429, not 503."""
    async with serving({"primary": [], "backup": []}, model={"queue": {"maxWaitSeconds": 1}}) as proxy:
        await proxy.post("/admin/candidates/primary/cool", seconds=50)
        await proxy.post("/admin/candidates/backup/disable")
        response = await proxy.chat()
    assert refused(response) == (429, "cooling_down", None)
    assert response.headers["retry-after"] == "50"


async def test_every_candidate_disabled():
    """503: none can be tried, and nobody knows when."""
    async with serving({"primary": [], "backup": []}) as proxy:
        for name in ("primary", "backup"):
            await proxy.post(f"/admin/candidates/{name}/disable")
        response = await proxy.chat()
    assert refused(response) == (503, "no_candidate", None)
    assert "retry-after" not in response.headers
    assert proxy.calls() == {"primary": 0, "backup": 0}


# -- time and local capacity


async def test_deadline_of_the_model():
    """504 when the model's own deadline passes during a call."""
    model = {"timeouts": {"totalSeconds": 5}}
    async with serving({"primary": [Slow(100)]}, model=model) as proxy:
        response = await proxy.chat()
    assert refused(response) == (504, "deadline_exceeded", None)


async def test_deadline_of_the_caller():
    """504 at the caller's own, shorter deadline."""
    async with serving({"primary": [Slow(100)]}) as proxy:
        began = anyio.current_time()
        response = await proxy.chat({"x-standby-timeout": "2.5"})
        assert anyio.current_time() - began == pytest.approx(2.5)
    assert refused(response) == (504, "deadline_exceeded", None)


async def test_caller_cannot_make_the_deadline_longer():
    """`x-standby-timeout` only shortens."""
    async with serving({"primary": [Slow(100)]}, model={"timeouts": {"totalSeconds": 5}}) as proxy:
        began = anyio.current_time()
        response = await proxy.chat({"x-standby-timeout": "50"})
        assert anyio.current_time() - began == pytest.approx(5)
    assert response.status_code == 504


@pytest.mark.parametrize(
    ("policy", "headers"),
    [
        ({"failoverPolicy": {"denyCategories": ["timeout"]}}, {}),
        ({"hardStopPolicy": {"categories": ["timeout"]}}, {}),
        ({}, {"x-standby-no-failover": "1"}),
    ],
    ids=["deny", "hard stop", "no failover"],
)
async def test_deadline_where_a_timeout_stops_the_run(policy, headers):
    """The deadline is the caller's, whatever the policy says of a provider that is too slow."""
    async with serving({"primary": [Slow(100)], "backup": []}, policy=policy) as proxy:
        response = await proxy.chat({"x-standby-timeout": "2", **headers})
    assert refused(response) == (504, "deadline_exceeded", None)


async def test_deadline_during_a_cooldown():
    """A deadline that comes before the end of the cooldown does not wait for it."""
    async with serving({"primary": []}) as proxy:
        await proxy.post("/admin/candidates/primary/cool", seconds=20)
        response = await proxy.chat({"x-standby-timeout": "2"})
    assert refused(response) == (429, "cooling_down", None)
    assert response.headers["retry-after"] == "20"


async def while_one_is_in_flight(proxy, **options):
    """What a second request is answered while the first one's call is under way."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(proxy.chat)
        while not proxy.clients["primary"].in_flight:
            await anyio.lowlevel.checkpoint()
        return await proxy.chat(**options)


async def test_queue_is_full():
    """429 at once, with a `Retry-After`."""
    options = {"limits": {"concurrency": 1}, "model": {"queue": {"maxWaiting": 0}}}
    async with serving({"primary": [Slow(9)]}, **options) as proxy:
        response = await while_one_is_in_flight(proxy)
    assert refused(response) == (429, "queue_full", None)
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-standby-attempts"] == "0"


async def test_wait_in_the_queue_runs_out():
    """429 after the longest wait, which the headers tell."""
    options = {"limits": {"concurrency": 1}, "model": {"queue": {"maxWaitSeconds": 4}}}
    async with serving({"primary": [Slow(9)]}, **options) as proxy:
        response = await while_one_is_in_flight(proxy)
    assert refused(response) == (429, "queue_timeout", None)
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-standby-queued-ms"] == "4000"


async def test_queue_for_a_minute():
    """Where the capacity is one of time, `Retry-After` is when there is some."""
    options = {"limits": {"requestsPerMinute": 1}, "model": {"queue": {"maxWaitSeconds": 4}}}
    async with serving({"primary": []}, **options) as proxy:
        await proxy.chat()
        response = await proxy.chat()
    assert refused(response) == (429, "queue_timeout", None)
    assert response.headers["retry-after"] == "56"


async def test_deadline_in_the_queue():
    """504 when too little time is left while the run waits for capacity."""
    async with serving({"primary": [Slow(9)]}, limits={"concurrency": 1}) as proxy:
        response = await while_one_is_in_flight(proxy, headers={"x-standby-timeout": "3"})
    assert refused(response) == (504, "deadline_exceeded", None)
    assert response.headers["x-standby-queued-ms"] == "2500"


async def test_local_limit_under_a_hard_stop():
    """A policy that stops the run at our own limit: 429, for nobody refused anything."""
    options = {"limits": {"requestsPerMinute": 1}, "policy": {"hardStopPolicy": {"categories": ["rate_limit"]}}}
    async with serving({"primary": [], "backup": []}, **options) as proxy:
        await proxy.chat()
        response = await proxy.chat()
    assert refused(response) == (429, "local_limit", None)
    assert response.headers["retry-after"] == "60"
