"""The call of a stream: what is sent, what is known at its head, and which answers come to no stream."""

import json

import pytest

from standby.clients import ClientError, ProviderStream, Request, StreamingClient, Usage
from tests.clients.conftest import KEY
from tests.clients.openai_streams import COUNT, DONE, HEL, LO, ROLE, STOP, WHOLE, event, heard, opened

pytestmark = pytest.mark.anyio

STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8"}


def request(body=None, **fields):
    return Request("gpt-4o", {"model": "chat", "messages": []} if body is None else body, **fields)


async def streamed(client, asked):
    """A whole streamed call, as `heard` tells it."""
    async with client.stream(asked) as stream:
        return await heard(stream)


def test_is_a_stream(client):
    """The protocols are kept."""
    assert isinstance(client, StreamingClient)
    stream: ProviderStream = opened()
    assert stream.usage is None


async def test_request_id():
    """The vendor's own id is known from the head."""
    assert opened(headers={"x-request-id": "req_1"}).request_id == "req_1"


async def test_call(provider, client):
    """The events of a stream that a server sends, and nothing kept from it."""
    route = provider.post("/chat/completions").respond(200, content=b"".join(WHOLE), headers=STREAM_HEADERS)
    assert await streamed(client, request()) == (ROLE + HEL, LO + STOP + DONE, None)
    sent = route.calls.last.request
    assert (sent.headers["accept"], sent.headers["accept-encoding"]) == ("text/event-stream", "identity")
    assert sent.headers["authorization"] == f"Bearer {KEY}"


async def test_call__completions(provider, client):
    """Completions stream, too."""
    text = event({"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]})
    provider.post("/completions").respond(200, content=text, headers=STREAM_HEADERS)
    assert await streamed(client, request(endpoint="completions")) == (text, b"", None)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"chat", "n": 1.50}', b'{"model":"gpt-4o", "n": 1.50,"stream":true}'),
        (b'{"model":"chat","stream":true}', b'{"model":"gpt-4o","stream":true}'),
        (b'{"model":"chat","stream":false}', b'{"model":"gpt-4o","stream":true}'),
        (b'{"model":"chat","stream":null}', b'{"model":"gpt-4o","stream":true}'),
        (b"{}", b'{"model":"gpt-4o","stream":true}'),
    ],
)
async def test_call__body(provider, client, body, sent):
    """A stream is asked for, and every other byte is sent as it was given."""
    route = provider.post("/chat/completions").respond(200, content=b"".join(WHOLE), headers=STREAM_HEADERS)
    await streamed(client, request(body))
    assert route.calls.last.request.content == sent


@pytest.mark.parametrize(
    ("options", "sent", "hidden"),
    [
        ({}, {"include_usage": True}, True),
        ({"stream_options": None}, {"include_usage": True}, True),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}, True),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
            True,
        ),
        ({"stream_options": {"include_usage": True}}, {"include_usage": True}, False),
        ({"stream_options": {"include_usage": True, "x": 1}}, {"include_usage": True, "x": 1}, False),
    ],
)
async def test_call__count_tokens(provider, client, options, sent, hidden):
    """Tokens are asked for where they must be counted, beside what the caller asks; only who asked is told."""
    route = provider.post("/chat/completions").respond(
        200, content=b"".join([HEL, STOP, COUNT, DONE]), headers=STREAM_HEADERS
    )
    asked = request({"model": "chat", "messages": [], "stream": True, **options}, count_tokens=True)
    async with client.stream(asked) as stream:
        _, after, _ = await heard(stream)
    assert json.loads(route.calls.last.request.content)["stream_options"] == sent
    assert (COUNT in after, stream.usage) == (not hidden, Usage(3, 4))


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_call__count_tokens_not(provider, client, options):
    """Where they need not be, nothing is added and nothing hidden."""
    route = provider.post("/chat/completions").respond(
        200, content=b"".join([HEL, STOP, COUNT, DONE]), headers=STREAM_HEADERS
    )
    _, after, _ = await streamed(client, request({"messages": [], **options}))
    assert json.loads(route.calls.last.request.content).get("stream_options") == options.get("stream_options")
    assert COUNT in after


@pytest.mark.parametrize(
    ("body", "endpoint", "choices"),
    [
        ({}, "chat/completions", 1),
        ({"n": 3}, "chat/completions", 3),
        ({"n": None}, "chat/completions", 1),
        ({"n": "3"}, "chat/completions", 1),
        ({"prompt": "a"}, "completions", 1),
        ({"prompt": ["a", "b"], "n": 2}, "completions", 4),
        ({"prompt": [1, 2, 3]}, "completions", 1),
        ({"prompt": [[1, 2], [3]]}, "completions", 2),
        ({"prompt": []}, "completions", 1),
    ],
)
async def test_call__choices(provider, client, body, endpoint, choices):
    """As many choices must finish as were asked for: so many for each prompt."""
    events = [
        event({"choices": [{"index": index, "text": "x", "delta": {"content": "x"}, "finish_reason": "stop"}]})
        for index in range(choices)
    ]
    provider.post(f"/{endpoint}").respond(200, content=b"".join(events), headers=STREAM_HEADERS)
    assert (await streamed(client, request(body, endpoint=endpoint)))[2] is None
    provider.post(f"/{endpoint}").respond(200, content=b"".join(events[:-1]), headers=STREAM_HEADERS)
    assert (await streamed(client, request(body, endpoint=endpoint)))[2].code == "stream_read_error"


async def refused(client, asked):
    """The error of a call that comes to no stream."""
    with pytest.raises(ClientError) as caught:
        async with client.stream(asked):
            raise AssertionError("there is a stream")
    return caught.value


@pytest.mark.parametrize("endpoint", ["embeddings", "responses/compact", "../completions", "../responses"])
async def test_call__endpoint(provider, client, endpoint):
    """What cannot be read as a stream is not asked for."""
    error = await refused(client, request(endpoint=endpoint))
    assert (error.retryable, error.scope) == (False, "request")
    assert not provider.calls


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"'])
async def test_call__bad_body(client, body):
    """Nor is anything sent that is no JSON object."""
    assert (await refused(client, request(body))).code == "bad_request"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    ("status", "code", "hint"), [(500, "server_error", None), (429, "rate_limit", 7.0), (401, "auth_failed", None)]
)
async def test_error_status(provider, client, status, code, hint, kind):
    """A status that is an error is one, as in a plain call."""
    provider.post("/chat/completions").respond(
        status, json={"error": {"message": "No."}}, headers={"content-type": kind, "retry-after": "7"}
    )
    error = await refused(client, request())
    assert (error.code, error.status, error.message) == (code, status, "No.")
    assert hint is None or error.hint == hint


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": {"message": "It broke.", "type": "server_error"}}, "server_error"),
        ({"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}, "invalid_response"),
        ({"choices": []}, "invalid_response"),
        ([], "invalid_response"),
    ],
)
async def test_whole_answer(provider, client, answer, code):
    """A whole answer where a stream was asked for is a failure: its own where it tells of one."""
    provider.post("/chat/completions").respond(200, json=answer)
    error = await refused(client, request())
    assert (error.code, error.status, error.retryable) == (code, 200, True)


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", b"\x00\x01\x02", b'{"error": "x"}'])
async def test_no_events(provider, client, content):
    """A success without a single event is a broken stream."""
    provider.post("/chat/completions").respond(200, content=content, headers={"content-type": "text/html"})
    before, after, error = await streamed(client, request())
    assert (before, after, error.code) == (b"", b"", "stream_read_error")


async def test_content_type__missing(provider, client):
    """Events are read whatever they are called."""
    provider.post("/chat/completions").respond(200, content=b"".join(WHOLE))
    assert (await streamed(client, request()))[2] is None
