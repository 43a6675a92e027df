"""What reaches the provider, and what comes back: bytes, endpoints, headers."""

import anyio
import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from standby.runner import Response
from standby.runner.testing import Fail, answer
from tests.proxy.conftest import CHAT, error_of, refused, serving

pytestmark = pytest.mark.anyio

ENDPOINTS = [
    *("chat/completions", "completions", "embeddings", "responses", "moderations", "images/generations", "messages")
]
BROKEN = Fail("server_error", "It broke.", status=500, retryable=True)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_endpoint_fails_over(endpoint):
    """Every JSON endpoint has the same failover, and each candidate is asked at the same endpoint."""
    async with serving({"primary": [BROKEN], "backup": []}) as proxy:
        response = await proxy.post(f"/v1/{endpoint}", model="chat", input="Hello?")
    assert response.status_code == 200
    assert response.headers["x-standby-candidate"] == "backup"
    assert [client.calls[0].endpoint for client in proxy.clients.values()] == [endpoint, endpoint]


async def test_answer_is_the_providers_bytes():
    """Byte by byte, with its status, as JSON."""
    content = b'{ "id":1.0,\n\t"x": "\\u00e9\xc3\xa9" , "n": 12345678901234567890123 }\n'
    said = Response(201, {"content-type": "application/json; charset=utf-8"}, content, orjson.loads(content))
    async with serving({"primary": [said]}) as proxy:
        response = await proxy.chat()
    assert (response.status_code, response.content) == (201, content)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(content))


async def test_body_is_the_callers_bytes():
    """Byte by byte but for the model's name, whatever the request says its type is."""
    content = b'{ "model" : "chat",\n "n": 1.0, "x": "\xc3\xa9", "stream": false }'
    async with serving({"primary": []}) as proxy:
        await proxy.http.post("/v1/completions", content=content, headers={"content-type": "text/plain"})
    [call] = proxy.clients["primary"].calls
    assert call.model == "m"
    assert call.body.with_model(call.model) == content.replace(b'"chat"', b'"m"')


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_trace_context_is_passed_on():
    """W3C's two headers go on to the provider, and none of the caller's others."""
    headers = {
        "traceparent": TRACE,
        "tracestate": "a=1,b=2",
        "authorization": "Bearer mine",
        "x-own": "1",
        "cookie": "c",
    }
    async with serving({"primary": []}) as proxy:
        await proxy.chat(headers)
    assert proxy.clients["primary"].calls[0].headers == {"traceparent": TRACE, "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": ""},
        {"traceparent": "nonsense", "tracestate": "a=1"},
        {"traceparent": b"\xff" * 55},
        {"traceparent": TRACE.upper()},
        {"traceparent": TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32)},
        {"traceparent": f"{TRACE} {TRACE}"},
        {"tracestate": "a=1"},
    ],
)
async def test_trace_context_that_is_none(headers):
    """It is left out: the provider must not be blamed for what it cannot be sent."""
    async with serving({"primary": []}) as proxy:
        assert (await proxy.chat(headers)).status_code == 200
    assert proxy.clients["primary"].calls[0].headers == {}


async def test_restricted_to_candidates():
    """`x-standby-candidates` restricts the run, on one line or several, in the operator's order."""
    async with serving({"a": [], "b": [BROKEN], "c": []}) as proxy:
        one_line = await proxy.chat({"x-standby-candidates": " c , b "})
        lines = [("x-standby-candidates", "c"), ("x-standby-candidates", "b")]
        two_lines = await proxy.http.post("/v1/chat/completions", json=CHAT, headers=lines)
    for response in (one_line, two_lines):
        assert response.headers["x-standby-candidate"] == "c"
        assert response.headers["x-standby-attempts"] == "2"
    assert proxy.calls() == {"a": 0, "b": 2, "c": 2}


@pytest.mark.parametrize(("written", "asked"), [("1", {"primary": 1, "backup": 0}), ("0", {"primary": 1, "backup": 1})])
async def test_no_failover(written, asked):
    """`x-standby-no-failover: 1` stops after the first candidate; 0 says nothing."""
    async with serving({"primary": [BROKEN], "backup": []}) as proxy:
        response = await proxy.chat({"x-standby-no-failover": written})
    assert proxy.calls() == asked
    assert response.status_code == (502 if written == "1" else 200)


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("GET", "/", "The operator's page (see /admin/candidates and /readyz)"),
    ],
)
async def test_not_supported_yet(method, path, named):
    """501 for what the contract names and this version cannot do."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.http.request(method, path)
    assert refused(response) == (501, "not_supported_yet", None)
    assert error_of(response)["message"].startswith(f"{named} is not supported yet. (run ")


async def test_mounted_in_another_application():
    """Paths, calls and errors are the same below a path of the host's."""
    async with serving({"primary": []}) as proxy:
        host = Starlette(routes=[Mount("/gateway", proxy.app)])
        transport = httpx.ASGITransport(host, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            served = await http.post("/gateway/v1/chat/completions", json=CHAT)
            nowhere = await http.get("/gateway/nowhere")
            messages = await http.post("/gateway/v1/messages", json={**CHAT, "model": "ghost"})
    assert served.status_code == 200
    assert refused(nowhere) == (404, "not_found", None)
    assert error_of(nowhere)["message"].startswith("There is nothing at '/nowhere'. (run ")
    assert messages.json()["type"] == "error"


async def test_other_streams_are_not_supported_yet():
    """501 for a request that asks for a stream where none is understood, and nobody is called."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.http.post("/v1/embeddings", json={**CHAT, "stream": True})
    assert refused(response) == (501, "not_supported_yet", None)
    assert proxy.calls() == {"primary": 0}


async def test_reload_while_a_request_is_read():
    """A model that a reload takes away just before the run begins is as unknown as any other."""
    async with serving({"primary": []}) as proxy:
        catalog = proxy.runner.catalog
        snapshot = catalog.snapshot()
        run = proxy.runner.run

        async def without_the_model(*arguments, **options):
            catalog.replace(type(snapshot)(version=2))
            return await run(*arguments, **options)

        proxy.runner.run = without_the_model
        response = await proxy.chat()
    assert refused(response) == (404, "model_not_found", "model")


async def test_many_at_once():
    """Requests that are under way at once do not share anything: each is told of its own run."""
    async with serving({"primary": lambda request: answer(request.body.data["messages"][0]["content"])}) as proxy:
        said = {}

        async def ask(number):
            response = await proxy.chat(
                {"x-standby-run-id": f"r{number}"}, messages=[{"role": "user", "content": str(number)}]
            )
            said[response.headers["x-standby-run-id"]] = response.json()["choices"][0]["message"]["content"]

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(ask, number)
    assert said == {f"r{number}": str(number) for number in range(50)}
