"""What is wrong with a request is said before anything is sent."""

import httpx
import pytest

from standby.clients import InvalidBody
from tests.proxy.conftest import CHAT, error_of, refused, serving
from tests.proxy.exchange import Exchange

pytestmark = pytest.mark.anyio


async def sent(content, headers=None, **parts):
    """What the bytes ``content`` are answered; nobody may be called for them."""
    async with serving({"primary": []}, **parts) as proxy:
        response = await proxy.http.post("/v1/chat/completions", content=content, headers=headers)
    assert proxy.calls() == {"primary": 0}
    return response


# -- the body


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"nope", b'{"model": "chat",}', b'{"model": "chat"} {}', b'{"model": "\xff"}', b'{"model": "\\ud800"}'],
)
async def test_not_json(content):
    """400, and the message says where the JSON breaks."""
    response = await sent(content)
    assert refused(response) == (400, "invalid_json", None)
    assert error_of(response)["message"].startswith("The request's body: not JSON: ")


@pytest.mark.parametrize("content", [b"[]", b'"chat"', b"null", b"1", b"true"])
async def test_not_an_object(content):
    """400, and the message says what it is."""
    response = await sent(content)
    assert refused(response) == (400, "invalid_json", None)
    assert error_of(response)["message"].startswith("The request's body: not a JSON object but ")


@pytest.mark.parametrize("content", [b"{}", b'{"model": null}', b'{"model": ""}', b'{"model": 1}', b'{"model": ["a"]}'])
async def test_no_model(content):
    """400 for a body that names no model."""
    assert refused(await sent(content)) == (400, "missing_model", "model")


async def test_unknown_model():
    """404, and the message names those that there are."""
    response = await sent(b'{"model": "ghost"}', more_models=["other"])
    assert refused(response) == (404, "model_not_found", "model")
    assert error_of(response)["message"].startswith("No model is named 'ghost'; there are: chat, other. (run ")


async def test_endless_name_of_a_model():
    """An error does not send back everything that it was sent."""
    response = await sent(b'{"model": "' + b"x" * 100_000 + b'"}')
    assert response.status_code == 404
    assert len(response.content) < 1000


@pytest.mark.parametrize("stream", [b"1", b"0", b'"true"', b"{}"])
async def test_stream_that_is_no_boolean(stream):
    """400: providers would read it each in their own way."""
    assert refused(await sent(b'{"model": "chat", "stream": %s}' % stream)) == (400, "invalid_request", "stream")


@pytest.mark.parametrize("stream", [False, None])
async def test_explicitly_no_stream(stream):
    """A request that says that it wants no stream is a plain one."""
    async with serving({"primary": []}) as proxy:
        assert (await proxy.chat(stream=stream)).status_code == 200


async def test_body_of_the_largest_size():
    """A body of exactly `maxBodyBytes` is taken."""
    body = b'{"model": "chat"}'
    async with serving({"primary": []}, server={"maxBodyBytes": len(body)}) as proxy:
        assert (await proxy.http.post("/v1/chat/completions", content=body)).status_code == 200


async def test_body_that_says_it_is_too_large():
    """413, and none of it is read."""
    exchange = Exchange(b'{"model": "chat"', b"}", headers=[(b"content-length", b"17")])
    async with serving({"primary": []}, server={"maxBodyBytes": 16}) as proxy:
        await exchange.run(proxy.app)
    assert (exchange.status, exchange.json["error"]["code"]) == (413, "request_too_large")
    assert exchange.json["error"]["message"].startswith("The body is larger than 16 bytes. (run ")
    assert exchange.taken == 0


async def test_body_in_chunks_that_is_too_large():
    """413 as soon as the bound is passed, and nothing is read after that."""
    exchange = Exchange(*[b"x" * 10] * 10)
    async with serving({"primary": []}, server={"maxBodyBytes": 25}) as proxy:
        await exchange.run(proxy.app)
    assert (exchange.status, exchange.json["error"]["code"]) == (413, "request_too_large")
    assert exchange.taken == 3


@pytest.mark.parametrize("length", ["9" * 5000, "99999999999999999999"])
async def test_content_length_that_nobody_means(length):
    """413 for a number that is too long to be read as one."""
    response = await sent(b"{}", {"content-length": length})
    assert refused(response) == (413, "request_too_large", None)


@pytest.mark.parametrize("length", ["-1", "0x10", "\xb2", "1e3"])
async def test_content_length_that_is_no_number(length):
    """It is the server's to refuse, and is not believed here."""
    response = await sent(b"{}", {"content-length": length.encode("latin-1")})
    assert refused(response) == (400, "missing_model", "model")


async def test_body_that_no_client_can_write():
    """A client that cannot write the body says so: 400, and it was not the provider's fault."""
    async with serving({"primary": [InvalidBody("cannot be written as JSON")], "backup": []}) as proxy:
        response = await proxy.chat()
        status = (await proxy.get("/admin/candidates")).json()["candidates"][0]
    assert refused(response) == (400, "invalid_json", None)
    assert (status["status"], status["failures_in_row"]) == ("usable", 0)


# -- the headers


@pytest.mark.parametrize(
    "written", ["", " ", "0", "0.0", "-1", "abc", "nan", "inf", "1e3", "1_0", "5s", "1,5", "\xb2", "9" * 400]
)
async def test_timeout_that_is_none(written):
    """400 for anything but a positive number of seconds."""
    response = await sent(b'{"model": "chat"}', {"x-standby-timeout": written.encode("latin-1")})
    assert refused(response) == (400, "invalid_header", "x-standby-timeout")


@pytest.mark.parametrize("written", ["true", "yes", "", "2", "\xff"])
async def test_no_failover_that_is_neither(written):
    """400 for anything but 1 and 0."""
    response = await sent(b'{"model": "chat"}', {"x-standby-no-failover": written.encode("latin-1")})
    assert refused(response) == (400, "invalid_header", "x-standby-no-failover")


@pytest.mark.parametrize("written", ["", ",", " , "])
async def test_no_candidates(written):
    """400 for a restriction to nobody."""
    response = await sent(b'{"model": "chat"}', {"x-standby-candidates": written})
    assert refused(response) == (400, "invalid_header", "x-standby-candidates")


@pytest.mark.parametrize("written", ["ghost", "primary,ghost", "chat/primary", "\xff", "primary;q=1"])
async def test_unknown_candidates(written):
    """400 for a candidate that the model does not have; the message names those that it has."""
    response = await sent(b'{"model": "chat"}', {"x-standby-candidates": written.encode("latin-1")})
    assert refused(response) == (400, "unknown_candidate", "x-standby-candidates")
    assert "it has: primary. (run " in error_of(response)["message"]


# -- the path


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/chat/%2e%2e/models",
        "/v1/files",
        "/admin",
        "/admin/",
        "/admin/ghost",
        "/admin/runs/a/b",
        "/healthz/",
        "/favicon.ico",
        "/%ff",
        "/" + "x" * 60_000,
    ],
)
async def test_unknown_path(path):
    """404 in OpenAI's shape, no redirect, and not all of a long path is sent back."""
    async with serving({"primary": []}) as proxy:
        responses = [await proxy.http.get(path), await proxy.http.post(path, json=CHAT)]
    for response in responses:
        assert refused(response) == (404, "not_found", None)
        assert len(response.content) < 1000
    assert proxy.calls() == {"primary": 0}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/embeddings", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PUT", "/admin/candidates/chat/primary/disable", "POST"),
        ("BREW", "/admin/runs", "GET, HEAD"),
    ],
)
async def test_method_that_is_not_allowed(method, path, allowed):
    """405 with `Allow`."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.http.request(method, path)
    assert response.status_code == 405
    assert ", ".join(sorted(response.headers["allow"].split(", "))) == allowed
    if method != "HEAD":
        assert refused(response) == (405, "method_not_allowed", None)


async def test_head_of_what_can_be_read():
    """HEAD is answered where GET is."""
    async with serving({"primary": []}) as proxy:
        responses = [await proxy.http.head(path) for path in ("/healthz", "/readyz", "/v1/models", "/admin/runs")]
    assert [response.status_code for response in responses] == [200] * 4


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "", "localhost:99999999", "\xff", "evil.example"])
async def test_host_that_is_none(host):
    """Whatever the Host header says, an error is answered as one, and repeats nothing of it."""
    async with serving({"primary": []}) as proxy:
        for path in ("/nowhere", "/v1/chat/completions", "/metrics", "/v1/chat/completions/"):
            response = await proxy.get(path, host=host.encode("latin-1"))
            assert refused(response)[0] in {403, 404, 405}
            assert "evil" not in response.text


async def test_defect_of_ours(monkeypatch):
    """500, with the run's id to ask by, and nothing of the exception."""

    async def broken(*_, **__):
        raise RuntimeError("secret of the house")

    async with serving({"primary": []}) as proxy:
        monkeypatch.setattr(proxy.runner, "run", broken)
        response = await proxy.chat({"x-standby-run-id": "mine"})
    assert refused(response) == (500, "internal_error", None)
    assert response.headers["x-standby-run-id"] == "mine"
    assert "secret" not in response.text


async def test_defect_is_logged_as_it_was():
    """The exception reaches the server's log by itself, and not wrapped in a group."""

    async def broken(*_, **__):
        raise RuntimeError("secret of the house")

    async with serving({"primary": []}) as proxy:
        proxy.runner.run = broken
        transport = httpx.ASGITransport(proxy.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            with pytest.raises(RuntimeError, match="secret of the house"):
                await http.post("/v1/chat/completions", json=CHAT)
