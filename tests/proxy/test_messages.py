"""Anthropic's Messages, as the server answers them: errors in Anthropic's shape everywhere, and counts of tokens."""

import orjson
import pytest

from standby.runner import Response
from standby.runner.testing import Fail, Streamed
from tests.proxy.conftest import serving

pytestmark = pytest.mark.anyio

MESSAGES = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello?"}]}
KEYS = {"keys": [{"name": "app", "key": "sk-app"}, {"name": "other", "key": "sk-other", "models": ["other"]}]}


def told(response):
    """An error in short: its status, its type and its message, in Anthropic's shape."""
    run_id = response.headers["x-standby-run-id"]
    body = response.json()
    assert (list(body), body["type"], body["request_id"]) == (["type", "error", "request_id"], "error", run_id)
    assert list(body["error"]) == ["type", "message"]
    assert body["error"]["message"].endswith(f" (run {run_id})")
    return response.status_code, body["error"]["type"], body["error"]["message"].removesuffix(f" (run {run_id})")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("method", "change", "headers", "status", "kind"),
    [
        ("POST", {}, {"x-api-key": "sk-wrong"}, 401, "authentication_error"),
        ("POST", {}, {"x-api-key": ""}, 401, "authentication_error"),
        ("POST", {}, {"x-api-key": "sk-other"}, 403, "permission_error"),
        ("POST", {"model": "ghost"}, {}, 404, "not_found_error"),
        ("POST", {"model": ""}, {}, 400, "invalid_request_error"),
        ("GET", {}, {}, 405, "invalid_request_error"),
        ("POST", {"metadata": {"user_id": "u" * 2000}}, {}, 413, "request_too_large"),
        ("POST", {}, {"x-standby-timeout": "soon"}, 400, "invalid_request_error"),
        ("POST", {}, {"x-standby-candidates": "nobody"}, 400, "invalid_request_error"),
    ],
)
async def test_what_is_refused_before_anything_is_sent(path, method, change, headers, status, kind):
    """Keys, models, methods, sizes and headers."""
    async with serving({"primary": []}, server={**KEYS, "max_body_bytes": 1000}, more_models=["other"]) as proxy:
        given = {"x-api-key": "sk-app", **headers}
        response = await proxy.http.request(method, path, json={**MESSAGES, **change}, headers=given)
    assert told(response)[:2] == (status, kind)
    assert proxy.calls() == {"primary": 0}


async def test_what_is_not_there_below_messages():
    """Batches are none of ours; whoever asks for them reads Anthropic's shape."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.post("/v1/messages/batches")
    assert told(response) == (404, "not_found_error", "There is nothing at '/v1/messages/batches'.")


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (Fail("bad_request", "max_tokens: too large", status=400, scope="request"), 400, "invalid_request_error"),
        (Fail("context_length_exceeded", "too long", status=413, scope="request"), 413, "request_too_large"),
        (Fail("rate_limit", status=429, retryable=True), 429, "rate_limit_error"),
        (Fail("auth_failed", status=401), 502, "api_error"),
        (Fail("overloaded", status=529, retryable=True), 502, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_run_comes_to(failure, status, kind, stream):
    """Plain, and where a stream was asked for."""
    async with serving({"primary": [failure]}) as proxy:
        response = await proxy.post("/v1/messages", **MESSAGES, stream=stream)
    assert told(response)[:2] == (status, kind)


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({"x-api-key": "sk-app"}, "app"),
        ({"authorization": "Bearer sk-app"}, "app"),
        ({"authorization": "Bearer sk-app", "x-api-key": "sk-wrong"}, "app"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_the_key_stands_where_clients_of_anthropic_put_it_too(path, headers, caller):
    """On every path; a bearer token counts where both are there."""
    async with serving({"primary": []}, server=KEYS, more_models=["other"]) as proxy:
        response = await proxy.post(path, headers, **MESSAGES)
        runs = [run async for run in _runs(proxy)]
    assert (response.status_code, [run["caller"] for run in runs]) == (200, [caller])


async def test_an_operators_key_stands_there_not():
    """The admin API has one way in."""
    async with serving({"primary": []}, server={"admin_key": "sk-admin"}) as proxy:
        response = await proxy.get("/admin/runs", **{"x-api-key": "sk-admin"})
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("written", "passed"),
    [("a-2025-01-01, b-2025-02-02", "a-2025-01-01, b-2025-02-02"), ("", None), ("x\ty", None)],
)
async def test_betas_are_passed_on(written, passed):
    """A client drops them unless they are its vendor's; what is no list of words goes nowhere."""
    async with serving({"primary": []}) as proxy:
        await proxy.post("/v1/messages", {"anthropic-beta": written}, **MESSAGES)
    assert proxy.clients["primary"].calls[0].headers.get("anthropic-beta") == passed


# -- streams -----------------------------------------------------------------------------------------------------


async def test_a_stream_that_breaks_ends_with_an_error_event():
    """Named as Anthropic names it, in Anthropic's shape, and nothing after it."""
    broken = Fail("stream_read_error", "the connection was cut", status=200, retryable=True).error
    async with serving({"primary": [Streamed("Hel", broken)]}) as proxy:
        response = await proxy.post("/v1/messages", **MESSAGES, stream=True)
    run_id = response.headers["x-standby-run-id"]
    said = response.content.partition(b"event: error\ndata: ")[2]
    message = f"The stream broke: stream_read_error (status 200): the connection was cut (run {run_id})"
    assert orjson.loads(said) == {
        "type": "error",
        "error": {"type": "api_error", "message": message},
        "request_id": run_id,
    }


# -- counting ----------------------------------------------------------------------------------------------------


async def test_tokens_are_estimated_where_nobody_can_count_them():
    """Nobody is called and nobody's health is touched; the record says that the count is not exact."""
    async with serving({"primary": [Fail("server_error", status=500)]}, server=KEYS, more_models=["other"]) as proxy:
        response = await proxy.post("/v1/messages/count_tokens", {"x-api-key": "sk-app"}, **MESSAGES)
        [run] = [run async for run in _runs(proxy)]
    assert response.json() == {"input_tokens": len(response.request.content) // 4}
    assert (response.headers["x-standby-attempts"], "x-standby-candidate" in response.headers) == ("0", False)
    assert (run["ending"], run["dropped"], run["tries"], run["caller"]) == ("answered", ["exact_count"], [], "app")
    assert run["run_id"] == response.headers["x-standby-run-id"]


async def test_tokens_are_counted_by_whoever_can():
    """The others are not asked, though they come first."""
    counted = Response(200, {}, b'{"input_tokens":14}', {"input_tokens": 14})
    async with serving({"mute": [], "able": [counted]}) as proxy:
        proxy.clients["able"].counts_tokens = True
        response = await proxy.post("/v1/messages/count_tokens", **MESSAGES)
    assert (response.json(), response.headers["x-standby-candidate"]) == ({"input_tokens": 14}, "able")
    assert proxy.calls() == {"mute": 0, "able": 1}
    assert proxy.clients["able"].calls[0].endpoint == "messages/count_tokens"


async def test_a_caller_may_choose_who_does_not_count():
    """Then it is an estimate; and whoever is not there is refused by name."""
    async with serving({"mute": [], "able": []}) as proxy:
        proxy.clients["able"].counts_tokens = True
        estimated = await proxy.post("/v1/messages/count_tokens", {"x-standby-candidates": "mute"}, **MESSAGES)
        nobody = await proxy.post("/v1/messages/count_tokens", {"x-standby-candidates": "ghost"}, **MESSAGES)
    assert (estimated.status_code, proxy.calls()) == (200, {"mute": 0, "able": 0})
    assert told(nobody)[0] == 400


async def test_what_is_no_request_is_not_counted():
    """It is refused as it would be if it were sent: where it is wrong, and how."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.post("/v1/messages/count_tokens", model="chat", messages="Hello?")
    assert told(response) == (400, "invalid_request_error", "messages must be a list, not a string.")


async def _runs(proxy):
    for run in (await proxy.get("/admin/runs")).json()["runs"]:
        yield (await proxy.get(f"/admin/runs/{run['run_id']}")).json()
