"""A caller of Anthropic's Messages and a server that speaks OpenAI's chat completions: the call, and each failure of it."""

import json

import httpx
import pytest
from pydantic import SecretStr

from standby.clients import ClientError, ClientSettings, OpenAIClient, Request, Usage, client_maker
from tests.clients.openai_streams import COUNT, DONE, HEL, LO, ROLE, STOP, delta, event
from tests.clients.test_openai_stream_errors import ERRORS

pytestmark = pytest.mark.anyio

BODY = {"model": "claude", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello!"}]}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": USAGE,
}


def asked(**fields):
    return Request(**{"model": "gpt", "body": BODY, "endpoint": "messages", **fields})


def streamed(provider, *events):
    headers = {"content-type": "text/event-stream"}
    return provider.post("/chat/completions").respond(200, content=b"".join(events), headers=headers)


async def heard(stream):
    events = b""
    while (block := await stream.read()) is not None:
        events += block.raw
    return [json.loads(line.removeprefix("data: ")) for line in events.decode().splitlines() if line.startswith("data")]


async def test_plain(provider, client):
    """It goes out as a chat of the server's model, and comes back as a message."""
    route = provider.post("/chat/completions").respond(200, json=ANSWER, headers={"x-request-id": "req_1"})
    response = await client.send(asked())
    request = route.calls.last.request
    assert json.loads(request.content) == {"model": "gpt", "messages": BODY["messages"], "max_completion_tokens": 64}
    assert request.headers["authorization"] == "Bearer sk-test-0123456789abcdef"
    assert (response.data["content"][0]["text"], response.data["stop_reason"]) == ("Hello.", "end_turn")
    assert response.usage == Usage(9, 5, cached_tokens=4, reasoning_tokens=2)
    assert (json.loads(response.content), response.request_id) == (response.data, "req_1")


async def test_no_id_and_no_time(provider, client):
    """Where a server tells neither its id nor the time, the call's own id and our clock stand for them."""
    bare = {"choices": ANSWER["choices"]}
    headers = {"x-request-id": "req_1"}
    body = {"input": "Hello!"}
    together = client_maker("together")(
        ClientSettings(name="it", base_url="https://provider.test/v1", http=httpx.MockTransport(provider.async_handler))
    )
    provider.post("/chat/completions").respond(200, json=bare, headers=headers)
    assert (await client.send(asked())).data["id"].endswith("req_1")
    responded = (await together.send(asked(body=body, endpoint="responses"))).data
    assert responded["id"].endswith("req_1")
    assert responded["created_at"] > 0


async def test_stream(provider, client):
    """A stream is asked to count, whether or not the runner wants to know: a message always ends with its tokens."""
    route = streamed(provider, ROLE, HEL, LO, STOP, COUNT, DONE)
    async with client.stream(asked()) as stream:
        events = await heard(stream)
    sent = json.loads(route.calls.last.request.content)
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    texts = [each["delta"]["text"] for each in events if each["type"] == "content_block_delta"]
    assert (texts, events[-1]["type"]) == (["Hel", "lo"], "message_stop")
    assert stream.usage == Usage(3, 4)


async def test_dropped(provider, client):
    """What a chat has no place for is refused before anything is sent, or left out and told, plain and streamed."""
    route = provider.post("/chat/completions").respond(200, json=ANSWER)
    body = BODY | {"top_k": 5}
    with pytest.raises(ClientError) as caught:
        await client.send(asked(body=body))
    assert (caught.value.code, caught.value.status, caught.value.work) == ("unsupported_parameter", 400, "not_sent")
    assert not route.called
    assert (await client.send(asked(body=body, drop=["top_k"]))).dropped == ("top_k",)
    streamed(provider, ROLE, HEL, STOP, DONE)
    async with client.stream(asked(body=body, drop=["top_k"])) as stream:
        assert stream.dropped == ("top_k",)


@pytest.mark.parametrize(("told", "code"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("before", [ROLE, ROLE + HEL], ids=["before content", "after content"])
async def test_stream__error(provider, client, told, code, before):
    """An error inside of a stream has the code that it has for a caller of chats; what came before it is told."""
    streamed(provider, before, told, LO, STOP, DONE)
    with pytest.raises(ClientError) as caught:
        async with client.stream(asked()) as stream:
            await heard(stream)
    assert (caught.value.code, caught.value.status, caught.value.retryable) == (code, 200, True)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([], "stream_read_error"),
        ([ROLE, HEL], "stream_read_error"),
        ([ROLE, HEL, delta("stop")[:-9]], "stream_read_error"),
        ([ROLE, STOP, DONE], "empty_response"),
        ([DONE], "empty_response"),
        ([ROLE, b"data: Hi.\n\n"], "invalid_response"),
        ([event({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {}}]}}]})], "invalid_response"),
    ],
)
async def test_stream__broken(provider, client, events, code):
    """A stream that breaks, says nothing or is none is no answer."""
    streamed(provider, *events)
    with pytest.raises(ClientError) as caught:
        async with client.stream(asked()) as stream:
            await heard(stream)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "end",
    [[STOP, DONE], [STOP], [delta("stop").rstrip()], [DONE], [DONE.rstrip()]],
    ids=["both", "reason alone", "without its blank line", "done alone", "done without its blank line"],
)
async def test_stream__ends(provider, client, end):
    """A stream is complete with its reason or with its end, whichever comes."""
    streamed(provider, ROLE, HEL, *end)
    async with client.stream(asked()) as stream:
        events = await heard(stream)
    assert events[-2]["delta"]["stop_reason"] == "end_turn"
    assert events[-1]["type"] == "message_stop"


async def test_stream__may_end_without_finish(provider):
    """Where a server just ends its streams, so does that of a message: complete."""
    client = OpenAIClient(
        api_key=SecretStr("sk-1"),
        base_url="https://provider.test/v1",
        http=httpx.MockTransport(provider.async_handler),
        streams_may_end_without_finish=True,
    )
    streamed(provider, ROLE, HEL)
    async with client.stream(asked()) as stream:
        events = await heard(stream)
    assert (events[-2]["delta"]["stop_reason"], events[-1]["type"]) == ("end_turn", "message_stop")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, {"error": {"message": "x", "code": 529}}, "overloaded"),
        (200, {"choices": [{"message": {"content": "Hi."}, "finish_reason": "error"}]}, "server_error"),
        (
            *(200, {"choices": [{"message": {"content": "H"}, "finish_reason": "insufficient_system_resource"}]}),
            "overloaded",
        ),
        (200, {"choices": []}, "invalid_response"),
        (200, {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}, "empty_response"),
        (429, {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}, "rate_limit"),
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, "context_length_exceeded"),
    ],
)
async def test_plain__error(provider, client, status, body, code):
    """A whole answer that is a failure is the same one for every caller, and so it is in the place of a stream."""
    provider.post("/chat/completions").respond(status, json=body)
    with pytest.raises(ClientError) as caught:
        await client.send(asked())
    assert (caught.value.code, caught.value.status) == (code, status)
    with pytest.raises(ClientError) as caught:
        async with client.stream(asked()):
            pass
    assert (caught.value.code, caught.value.status) == (code, status)
