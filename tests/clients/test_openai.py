"""What goes to an OpenAI-compatible server, and what comes back."""

import gzip
import json
import logging

import httpx
import pytest
from pydantic import SecretStr

from standby.clients import Body, ClientError, HttpPool, OpenAIClient, ProviderClient, Request, Usage

pytestmark = pytest.mark.anyio

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]}


def request(**fields):
    return Request(**{"model": "gpt-4o", "body": b'{"model":"chat","messages":[]}', **fields})


@pytest.fixture
def route(provider):
    return provider.post("/chat/completions").respond(200, json=ANSWER)


def sent(route):
    return route.calls.last.request


def test_is_a_client(client):
    """It keeps the protocol."""
    assert isinstance(client, ProviderClient)


async def test_response(provider, client):
    """The answer comes back as it was sent, and decoded."""
    content = b'{ "choices": [{"message": {"content": "Hi."}}],\n "odd": 1.50 }'
    provider.post("/chat/completions").respond(200, content=content, headers={"X-Request-ID": "req_1", "X-A": "b"})
    response = await client.send(request())
    assert (response.status, response.content, response.data["odd"]) == (200, content, 1.5)
    assert (response.headers["x-a"], response.request_id, response.usage) == ("b", "req_1", None)


async def test_response__compressed(provider, client):
    """A compressed answer is handed on decompressed."""
    provider.post("/chat/completions").respond(
        200, content=gzip.compress(json.dumps(ANSWER).encode()), headers={"content-encoding": "gzip"}
    )
    assert json.loads((await client.send(request())).content) == ANSWER


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4)),
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(3, 0)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 5, 4, 2, 3),
        ),
        (
            {"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}},
            Usage(9, 5, 4),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": None}, Usage(9, 5)),
        ({"prompt_tokens": -3, "completion_tokens": "4"}, None),
        ({"prompt_tokens": True}, None),
        *(({}, None), (None, None), ("7", None)),
    ],
)
async def test_usage(provider, client, usage, expected):
    """Tokens are read in both of OpenAI's spellings; what is no number is not counted."""
    provider.post("/chat/completions").respond(200, json=ANSWER | {"usage": usage})
    assert (await client.send(request())).usage == expected


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("chat/completions", ANSWER),
        ("/chat/completions/", ANSWER),
        ("completions", {"choices": [{"text": "Hi.", "finish_reason": "stop"}]}),
        ("completions", {"choices": [{"text": "", "finish_reason": "content_filter"}]}),
        ("embeddings", {"data": [{"embedding": [0.1]}]}),
        ("responses", {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi."}]}]}),
        ("responses", {"status": "completed", "error": None, "output": [{"type": "function_call"}]}),
        ("responses", {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}),
        ("responses", {"status": "queued", "output": []}),
        ("moderations", {"results": [{"flagged": False}]}),
        ("images/generations", {"data": [{"b64_json": "aGk="}]}),
        ("rerank", {"anything": 1}),
        ("v2/a-b_c.d:e/f", {}),
    ],
)
async def test_endpoint(provider, client, endpoint, body):
    """Any JSON endpoint can be called; of the known ones the answer's shape is checked."""
    route = provider.post(f"/{endpoint.strip('/')}").respond(200, json=body)
    assert (await client.send(request(endpoint=endpoint))).data == body
    assert route.called


@pytest.mark.parametrize(
    ("endpoint", "body", "code"),
    [
        ("completions", {}, "invalid_response"),
        ("completions", {"choices": []}, "invalid_response"),
        ("completions", {"choices": [{"message": {"content": "Hi."}}]}, "invalid_response"),
        ("completions", {"choices": [{"text": "", "finish_reason": "stop"}]}, "empty_response"),
        ("embeddings", {}, "invalid_response"),
        ("embeddings", {"data": {}}, "invalid_response"),
        ("responses", {"output": None}, "invalid_response"),
        ("responses", {"output": [], "status": "failed"}, "invalid_response"),
        ("responses", {"output": [], "status": "completed"}, "empty_response"),
        ("responses", {"output": [{"type": "message", "content": []}]}, "empty_response"),
        ("responses", {"status": "failed", "error": {"code": "server_error", "message": "x"}}, "server_error"),
        ("moderations", {}, "invalid_response"),
        ("images/generations", {}, "invalid_response"),
        ("rerank", [], "invalid_response"),
    ],
)
async def test_endpoint__promise(provider, client, endpoint, body, code):
    """An answer that has not the shape of its endpoint, or nothing in it, is none."""
    provider.post(f"/{endpoint}").respond(200, json=body)
    with pytest.raises(ClientError) as caught:
        await client.send(request(endpoint=endpoint))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "endpoint", ["", "/", "../admin", "a/../../b", "a/./b", "a?b=c", "a#b", "a b", "é", "a\r\nb", "x" * 501]
)
async def test_endpoint__refused(client, endpoint):
    """An endpoint that would lead elsewhere is refused before anything is sent."""
    with pytest.raises(ClientError) as caught:
        await client.send(request(endpoint=endpoint))
    assert (caught.value.code, caught.value.work, caught.value.scope) == ("invalid_request", "not_sent", "request")


async def test_body(route, client):
    """The body is sent untouched but for the model's name."""
    await client.send(request(body=b'{ "model" : "chat", "seed":123456789012345678901, "x":1.50 }'))
    assert sent(route).content == b'{ "model" : "gpt-4o", "seed":123456789012345678901, "x":1.50 }'


@pytest.mark.parametrize("body", [{"model": "chat", "n": 1}, Body(b'{"model":"chat","n":1}')])
async def test_body__forms(route, client, body):
    """A body may be a mapping, or one that was read before."""
    await client.send(request(body=body))
    assert json.loads(sent(route).content) == {"model": "gpt-4o", "n": 1}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", {"x": {1, 2}}])
async def test_body__refused(client, body):
    """A body that is not a JSON object is the request's own fault, and never sent."""
    with pytest.raises(ClientError) as caught:
        await client.send(request(body=body))
    assert (caught.value.code, caught.value.status) == ("bad_request", 0)
    assert (caught.value.work, caught.value.scope, caught.value.retryable) == ("not_sent", "request", False)


async def test_headers(route, client):
    """The key, and what kind of thing is sent and expected."""
    await client.send(request())
    headers = sent(route).headers
    assert headers["authorization"] == "Bearer sk-test-0123456789abcdef"
    assert (headers["content-type"], headers["accept"]) == ("application/json", "application/json")
    assert (headers["accept-encoding"], headers["user-agent"]) == ("gzip", "standby")


async def test_headers__callers(route, client):
    """The caller's headers are passed on; the client's own win, and those of a connection stay behind."""
    await client.send(
        request(
            headers={
                "X-Trace": "1",
                "OpenAI-Beta": "assistants=v2",
                "Authorization": "Bearer stolen",
                "Content-Type": "text/plain",
                "Host": "elsewhere.test",
                "Cookie": "a=b",
                "Connection": "close",
                "Transfer-Encoding": "chunked",
                "Content-Length": "5",
            }
        )
    )
    headers = sent(route).headers
    assert (headers["x-trace"], headers["openai-beta"]) == ("1", "assistants=v2")
    assert headers.get_list("authorization") == ["Bearer sk-test-0123456789abcdef"]
    assert (headers["content-type"], headers["host"]) == ("application/json", "provider.test")
    assert not {"cookie", "connection", "transfer-encoding"} & set(headers)


async def test_headers__operators(provider, route):
    """The operator's headers win over everything, an `authorization` among them over the key."""
    client = OpenAIClient(
        api_key=SecretStr("sk-unused"),
        base_url="https://provider.test/v1",
        headers={"Authorization": SecretStr("Basic eHg6eXk="), "X-Org": SecretStr("mine")},
        http=httpx.MockTransport(provider.async_handler),
    )
    await client.send(request(headers={"x-org": "theirs"}))
    headers = sent(route).headers
    assert headers.get_list("authorization") == ["Basic eHg6eXk="]
    assert headers.get_list("x-org") == ["mine"]


@pytest.mark.parametrize("key", [None, SecretStr(""), SecretStr("  ")])
async def test_no_key(provider, route, key):
    """Where there is no key none is sent: local servers want none. The caller may send their own."""
    client = OpenAIClient(
        api_key=key, base_url="https://provider.test/v1/", http=httpx.MockTransport(provider.async_handler)
    )
    await client.send(request())
    assert "authorization" not in sent(route).headers
    await client.send(request(headers={"authorization": "Bearer own"}))
    assert sent(route).headers["authorization"] == "Bearer own"


async def test_key_is_never_seen(route, client, caplog):
    """The key is in no representation and in no log."""
    with caplog.at_level(logging.DEBUG):
        await client.send(request())
    assert "sk-test" not in f"{client!r} {vars(client)} {caplog.text}"


@pytest.mark.parametrize(
    "base_url",
    [
        *("", "provider.test/v1", "ftp://provider.test", "https://", "https://provider.test/v1?key=secret-1"),
        *("https://user:secret-1@provider.test/v1", "https://provider.test:99999/v1", "https://provider.test/a b"),
    ],
)
def test_base_url__refused(base_url):
    """An address that cannot be called is refused at once, without repeating what may be secret in it."""
    with pytest.raises(ValueError, match="base_url") as caught:
        OpenAIClient(base_url=base_url)
    assert "secret-1" not in str(caught.value)


async def test_base_url__default():
    """Left out, it is OpenAI's."""
    seen = []

    def answer(sent_request):
        seen.append(str(sent_request.url))
        return httpx.Response(200, json=ANSWER)

    await OpenAIClient(http=httpx.MockTransport(answer)).send(request())
    assert seen == ["https://api.openai.com/v1/chat/completions"]


async def test_aclose(provider):
    """A pool that was handed in stays open; one of its own is closed."""
    transport = httpx.MockTransport(provider.async_handler)
    provider.post("/chat/completions").respond(200, json=ANSWER)
    async with HttpPool(transport) as pool:
        sharing = OpenAIClient(base_url="https://provider.test/v1", http=pool)
        await sharing.aclose()
        await sharing.send(request())
    owning = OpenAIClient(base_url="https://provider.test/v1", http=transport)
    await owning.aclose()
    with pytest.raises(ClientError, match="closed"):
        await owning.send(request())
