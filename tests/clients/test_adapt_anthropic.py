"""A client of Anthropic's SDK as a candidate, and those of its kind for the clouds."""

import json
from dataclasses import replace

import anthropic
import httpx2
import pytest
from anthropic.lib.bedrock import AsyncAnthropicBedrock, AsyncAnthropicBedrockMantle
from anthropic.lib.vertex import AsyncAnthropicVertex
from pydantic import SecretStr

from standby.clients import AnthropicClient, ClientError, Request, adapt
from tests.clients.sdk_provider import Provider, answering, failure_of, read

pytestmark = pytest.mark.anyio

KEY = "hunter2-hunter2"
HI = {"messages": [{"role": "user", "content": "Hi"}]}
NATIVE = Request("claude", {"model": "chat", "max_tokens": 9, **HI}, "messages")
CHAT = Request("claude", {"model": "chat", "max_tokens": 9, **HI})
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}


def event(kind, **data):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


EVENTS = b"".join(
    [
        event("message_start", message={**ANSWER, "content": [], "stop_reason": None}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello."}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 2}),
        event("message_stop"),
    ]
)


def sdk_of(provider, kind=anthropic.AsyncAnthropic, **options):
    options = {"api_key": KEY, "base_url": "https://provider.test"} | options
    return kind(http_client=options.pop("http_client", None) or provider.over_httpx2(), **options)


async def test_messages():
    """Its own dialect goes out as it came, with the SDK's key, and the answer comes back as it was sent."""
    provider = answering(ANSWER)
    response = await adapt(sdk_of(provider)).send(NATIVE)
    assert json.loads(response.content) == ANSWER
    (sent,) = provider.seen
    assert (str(sent.url), sent.headers["authorization"]) == ("https://provider.test/v1/messages", f"Bearer {KEY}")
    assert json.loads(sent.content) == {"model": "claude", "max_tokens": 9, **HI}
    assert sent.headers["user-agent"].startswith("AsyncAnthropic/")


async def test_chat():
    """What a caller of OpenAI's dialect says is translated, and so is the answer."""
    provider = answering(ANSWER)
    response = await adapt(sdk_of(provider)).send(CHAT)
    assert response.data["choices"][0]["message"]["content"] == "Hello."
    assert json.loads(provider.seen[0].content)["messages"][0]["role"] == "user"


async def test_stream():
    """A stream's events, as they were sent."""
    provider = Provider(content=EVENTS, headers={"content-type": "text/event-stream"})
    assert await read(adapt(sdk_of(provider)), NATIVE) == EVENTS
    assert json.loads(provider.seen[0].content)["stream"] is True


async def test_stream__chat():
    """And translated."""
    provider = Provider(content=EVENTS, headers={"content-type": "text/event-stream"})
    raw = await read(adapt(sdk_of(provider)), CHAT)
    assert b'"content":"Hello."' in raw
    assert raw.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_middleware(stream):
    """What its user put between the SDK and the provider sees every call."""
    seen = []

    async def look(request, call_next):
        seen.append(request)
        return await call_next(request)

    content_type = "text/event-stream" if stream else "application/json"
    provider = Provider(
        content=EVENTS if stream else json.dumps(ANSWER).encode(), headers={"content-type": content_type}
    )
    client = adapt(sdk_of(provider, middleware=[look]))
    if stream:
        assert await read(client, NATIVE) == EVENTS
    else:
        assert (await client.send(NATIVE)).data == ANSWER
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("status", "error", "headers"),
    [
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low"}, {}),
        (401, {"type": "authentication_error", "message": f"who is {KEY}?"}, {"request-id": "req_1"}),
        (429, {"type": "rate_limit_error", "message": "slow down"}, {"retry-after": "7"}),
        (529, {"type": "overloaded_error", "message": "Overloaded"}, {"x-should-retry": "true"}),
        (200, {"type": "overloaded_error", "message": "Overloaded"}, {}),
    ],
)
async def test_failure(status, error, headers):
    """An answer that is a failure is the same one as over our own HTTP; the SDK sends nothing again."""
    provider = answering({"type": "error", "error": error}, status=status)
    provider.headers |= headers
    own = AnthropicClient(api_key=SecretStr(KEY), base_url="https://provider.test", http=provider.over_httpx())
    there = await failure_of(own, NATIVE)
    provider.seen.clear()
    here = await failure_of(adapt(sdk_of(provider, max_retries=5)), NATIVE)
    assert len(provider.seen) == 1
    assert KEY not in here.message
    for name in ("code", "message", "status", "retryable", "scope", "work", "request_id", "vendor", "hint"):
        assert getattr(here, name) == getattr(there, name), name


@pytest.mark.parametrize(
    ("error", "code", "work"),
    [
        (httpx2.ConnectError("refused"), "network", "not_sent"),
        (httpx2.ReadTimeout(""), "timeout", "unknown"),
        (httpx2.RemoteProtocolError("cut"), "network", "unknown"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_failure__no_answer(error, code, work):
    """What the SDK calls a connection error is told apart by its cause."""
    provider = Provider(raises=error)
    failure = await failure_of(adapt(sdk_of(provider, max_retries=5)), NATIVE)
    assert (failure.code, failure.work, len(provider.seen)) == (code, work, 1)


async def test_failure__no_credential():
    """A callback of its user that has no token concerns the credential, and nothing is sent."""
    provider = answering(ANSWER)

    def token(**_):
        raise LookupError("hunter2")

    failure = await failure_of(adapt(sdk_of(provider, api_key=None, credentials=token)), NATIVE)
    assert (failure.code, failure.scope, failure.work) == ("auth_failed", "credential", "not_sent")
    assert failure.message == "the SDK could not make the call: LookupError"
    assert not provider.seen


async def test_version():
    """What goes out is of the version of the API that is understood here, whatever the SDK's own is."""
    provider = answering(ANSWER)
    await adapt(sdk_of(provider)).send(NATIVE)
    assert provider.seen[0].headers["anthropic-version"] == "2023-06-01"


async def test_beta():
    """A caller's betas go on."""
    provider = answering(ANSWER)
    await adapt(sdk_of(provider)).send(replace(NATIVE, headers={"anthropic-beta": "a,b"}))
    assert provider.seen[0].headers["anthropic-beta"] == "a,b"


async def test_vertex():
    """The one for Vertex AI names the model in the address, and has a token of Google's."""
    provider = answering(ANSWER)
    options = {"base_url": "https://vertex.test/v1", "region": "europe-west1", "project_id": "ours"}
    sdk = AsyncAnthropicVertex(access_token=KEY, http_client=provider.over_httpx2(), **options)
    response = await adapt(sdk).send(CHAT)
    assert response.data["choices"][0]["message"]["content"] == "Hello."
    (sent,) = provider.seen
    place = "projects/ours/locations/europe-west1/publishers/anthropic/models/claude:rawPredict"
    assert str(sent.url) == f"https://vertex.test/v1/{place}"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    body = json.loads(sent.content)
    assert (body["anthropic_version"], "model" in body) == ("vertex-2023-10-16", False)


async def test_vertex__stream():
    """And streams from there."""
    provider = Provider(content=EVENTS, headers={"content-type": "text/event-stream"})
    sdk = AsyncAnthropicVertex(access_token=KEY, region="global", project_id="ours", http_client=provider.over_httpx2())
    assert await read(adapt(sdk), NATIVE) == EVENTS
    assert str(provider.seen[0].url).endswith("models/claude:streamRawPredict")


async def test_bedrock__messages_endpoint():
    """The one for Bedrock's Messages endpoint has a key of Bedrock's."""
    provider = answering(ANSWER)
    sdk = sdk_of(provider, AsyncAnthropicBedrockMantle, aws_region="eu-central-1", base_url="https://bedrock.test")
    assert (await adapt(sdk).send(NATIVE)).data == ANSWER
    assert provider.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_bedrock__own_streams():
    """The one whose streams are in a format of Bedrock's own is refused by its name."""
    with pytest.raises(TypeError, match="AsyncAnthropicBedrock is not a client that can be adapted"):
        adapt(AsyncAnthropicBedrock(aws_region="eu-central-1", api_key=KEY))


def test_synchronous():
    """A synchronous client would hold up the event loop."""
    with anthropic.Anthropic(api_key=KEY) as sdk, pytest.raises(TypeError, match="use AsyncAnthropic"):
        adapt(sdk)


async def test_break():
    """A stream that breaks is told as one."""
    provider = Provider(content=EVENTS[:-60], headers={"content-type": "text/event-stream"})
    with pytest.raises(ClientError) as caught:
        await read(adapt(sdk_of(provider)), NATIVE)
    assert caught.value.code == "stream_read_error"
