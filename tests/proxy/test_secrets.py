"""No secret is in any answer, whatever is asked and whatever the provider does."""

import httpx
import orjson
import pytest

from standby.proxy import Tools, create_app
from standby.runner import Runner
from standby.store import MemoryCatalog, parse
from tests.proxy.conftest import CHAT

pytestmark = pytest.mark.anyio

CALLERS = "callers-own-key-Zq81XwB4"
OPERATORS = "operators-own-key-Kd72LmP9"
PROVIDERS = "providers-own-key-Vn55RtY3"
HEADERS = "headers-own-value-Hs64QcJ8"
SECRETS = (CALLERS, OPERATORS, PROVIDERS, HEADERS)

RAW = {
    "version": 1,
    "server": {"keys": [{"name": "app", "key": CALLERS}], "admin_key": OPERATORS},
    "providers": {
        "a": {
            "client": "openai",
            "base_url": "http://provider.test/v1",
            "api_key": PROVIDERS,
            "headers": {"x-gateway": HEADERS},
        }
    },
    "runtime_policies": {"once": {"retryPolicy": {"maxAttempts": 1}}},
    "models": {"chat": {"candidates": [{"id": "primary", "provider": "a", "model": "m", "runtime_policy": "once"}]}},
}


def echo(request):
    """Every secret that came with a request."""
    return " ".join(request.headers.values())


def in_an_error(status):
    def answered(request):
        error = {
            "message": f"You sent {echo(request)}",
            "type": echo(request),
            "code": echo(request),
            "param": PROVIDERS,
        }
        return httpx.Response(status, json={"error": {**error, PROVIDERS: HEADERS}})

    return answered


def as_text(request):
    return httpx.Response(500, text=f"<html><title>{echo(request)}</title>")


def in_headers(request):
    return httpx.Response(429, headers={"x-request-id": PROVIDERS, "retry-after": PROVIDERS, "x-echo": echo(request)})


def in_an_exception(request):
    raise httpx.ConnectError(f"cannot connect with {echo(request)}")


def in_a_defect(request):
    raise RuntimeError(f"{PROVIDERS} {HEADERS}")


def in_a_redirect(request):
    return httpx.Response(307, headers={"location": f"http://u:{PROVIDERS}@elsewhere.test/?key={HEADERS}"})


def inside_of_a_success(request):
    return httpx.Response(200, json={"error": {"message": echo(request), "code": echo(request)}})


def in_headers_of_a_success(request):
    said = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}]}
    return httpx.Response(200, json=said, headers={"x-echo": echo(request), "set-cookie": PROVIDERS})


PROVIDER = [
    *(in_an_error(status) for status in (400, 401, 403, 404, 422, 429, 500)),
    as_text,
    in_headers,
    in_an_exception,
    in_a_defect,
    in_a_redirect,
    inside_of_a_success,
    in_headers_of_a_success,
]


async def sweep(http):
    """Everything that can be asked, rightly and wrongly."""
    operator = {"authorization": f"Bearer {OPERATORS}"}
    caller = {"authorization": f"Bearer {CALLERS}"}
    for headers in (caller, operator, {}):
        for path in ("chat/completions", "embeddings", "images/generations"):
            yield await http.post(f"/v1/{path}", json=CHAT, headers={**headers, "x-standby-run-id": "mine"})
        yield await http.post("/v1/chat/completions", json={**CHAT, "model": "ghost"}, headers=headers)
        yield await http.post("/v1/chat/completions", content=b"{", headers=headers)
        for path in ("/v1/models", "/healthz", "/readyz", "/metrics", "/", "/nowhere", "/admin/candidates"):
            yield await http.get(path, headers=headers)
        for path in ("/admin/runs", "/admin/runs/mine"):
            yield await http.get(path, headers=headers)
        for path in ("/admin/candidates/primary/cool", "/admin/candidates/primary/restore", "/admin/reload"):
            yield await http.post(path, headers=headers)


@pytest.mark.parametrize("provider", PROVIDER)
async def test_no_secret_in_any_answer(provider):
    """Not in a body, not in a header, not even where the provider repeats what it was sent."""
    document = parse(RAW)
    sent = []

    def answered(request):
        sent.append(request)
        return provider(request)

    async def reload():
        parse({**RAW, "providers": {"a": {**RAW["providers"]["a"], "api_keys": PROVIDERS}}})

    runner = Runner(MemoryCatalog(document.snapshot()), http=httpx.MockTransport(answered), chance=lambda: 0.0)
    app = create_app(runner, document.server, Tools(reload=reload))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    asked = 0
    async with runner, httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        async for response in sweep(http):
            asked += 1
            told = f"{response.headers} {response.text}"
            assert not [secret for secret in SECRETS if secret in told], told
    assert asked == 51
    assert all(PROVIDERS in echo(request) and HEADERS in echo(request) for request in sent)
    assert not any(CALLERS in echo(request) or CALLERS in request.content.decode() for request in sent)


async def test_record_is_without_secrets():
    """What is kept of a run is without them as well."""
    runner = Runner(
        MemoryCatalog(parse(RAW).snapshot()), http=httpx.MockTransport(in_an_error(400)), chance=lambda: 0.0
    )
    async with runner:
        app = create_app(runner, parse(RAW).server)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
            await http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {CALLERS}"})
        [record] = await runner.history.newest()
    kept = orjson.dumps(dict(record)).decode()
    assert record["tries"][0]["failure"]["status"] == 400
    assert not [secret for secret in SECRETS if secret in kept]
