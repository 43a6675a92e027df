"""A user's own SDK client as a candidate: its credential and connections, our codecs, errors and bounds."""

import json
import subprocess
import sys

import httpx
import httpx2
import openai
import pytest
from pydantic import SecretStr

from standby.clients import ChatServer, ClientError, Form, OpenAIClient, Request, adapt
from standby.clients._form import parts_of
from tests.clients.sdk_provider import Provider, answering, failure_of, read

pytestmark = pytest.mark.anyio

KEY = "hunter2-hunter2"
URL = "https://provider.test/v1/chat/completions"
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]}
ASKED = Request("gpt", {"messages": [{"role": "user", "content": "Hi"}]})
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Hello."},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


def sdk_of(provider, **options):
    http_client = options.pop("http_client", None) or provider.over_httpx2()
    return openai.AsyncOpenAI(
        **{"api_key": KEY, "base_url": "https://provider.test/v1", "http_client": http_client, **options}
    )


# -- what is sent ------------------------------------------------------------------------------------------------


async def test_call():
    """The SDK's address, key and headers; the answer's own bytes."""
    provider = answering(ANSWER)
    response = await adapt(sdk_of(provider, default_headers={"x-team": "blue"}, organization="org-1")).send(ASKED)
    assert json.loads(response.content) == response.data == ANSWER
    (sent,) = provider.seen
    assert (sent.method, str(sent.url)) == ("POST", URL)
    assert json.loads(sent.content) == {"messages": [{"role": "user", "content": "Hi"}], "model": "gpt"}
    told = {name: sent.headers[name] for name in ("authorization", "x-team", "openai-organization")}
    assert told == {"authorization": f"Bearer {KEY}", "x-team": "blue", "openai-organization": "org-1"}
    assert sent.headers["user-agent"].startswith("AsyncOpenAI/")


async def test_call__what_it_must_not_change():
    """Numbers of any size, unknown keys and text of any kind arrive as they were asked."""
    provider = answering(ANSWER)
    content = '{"model": "a", "messages": [], "seed": 123456789012345678901234567890, "x": [1.5e-7, null, "é\\u2028"]}'
    await adapt(sdk_of(provider)).send(Request("gpt", content.encode()))
    assert json.loads(provider.seen[0].content) == {**json.loads(content), "model": "gpt"}


async def test_call__headers_of_the_caller():
    """A trace goes on to the provider."""
    provider = answering(ANSWER)
    await adapt(sdk_of(provider)).send(Request("gpt", {"messages": []}, headers={"Traceparent": "00-1-2-01"}))
    assert provider.seen[0].headers["traceparent"] == "00-1-2-01"


async def test_stream():
    """A stream's events, as they were sent; compression is not asked for."""
    provider = Provider(content=EVENTS, headers={"content-type": "text/event-stream"})
    assert await read(adapt(sdk_of(provider)), ASKED) == EVENTS
    assert json.loads(provider.seen[0].content)["stream"] is True
    assert provider.seen[0].headers["accept-encoding"] == "identity"


async def test_azure__deployment():
    """Azure's client names the deployment in the address; its version and key go with every call."""
    provider = answering(ANSWER)
    sdk = openai.AsyncAzureOpenAI(
        api_key=KEY,
        api_version="2024-10-21",
        azure_endpoint="https://me.openai.azure.test",
        http_client=provider.over_httpx2(),
    )
    await adapt(sdk).send(ASKED)
    (sent,) = provider.seen
    path = "https://me.openai.azure.test/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert (str(sent.url), sent.headers["api-key"]) == (path, KEY)


@pytest.mark.parametrize(("version", "key"), [("2024-10-21", "max_tokens"), ("2025-04-01", "max_completion_tokens")])
async def test_azure__version(version, key):
    """What is translated goes out by the words of the version that the SDK's client speaks."""
    provider = answering(ANSWER)
    sdk = openai.AsyncAzureOpenAI(
        api_key=KEY, api_version=version, azure_endpoint="https://azure.test", http_client=provider.over_httpx2()
    )
    hi = [{"role": "user", "content": "Hi"}]
    await adapt(sdk).send(Request("gpt", {"model": "x", "max_tokens": 9, "messages": hi}, "messages"))
    assert json.loads(provider.seen[0].content)[key] == 9


async def test_server():
    """What a compatible server does otherwise can be told."""
    provider = answering(ANSWER)
    server = ChatServer(name="theirs", pages=(), lacks=("seed",))
    client = adapt(sdk_of(provider), server=server)
    failure = await failure_of(client, Request("gpt", {**ASKED.body, "seed": 1}))
    assert (failure.code, provider.seen) == ("unsupported_parameter", [])


async def test_azure__token():
    """A callback for tokens is asked before each call."""
    provider = answering(ANSWER)
    tokens = iter(["token-one", "token-two"])

    async def token():
        return next(tokens)

    sdk = openai.AsyncAzureOpenAI(
        azure_ad_token_provider=token,
        api_version="2024-10-21",
        azure_endpoint="https://me.openai.azure.test",
        azure_deployment="mine",
        http_client=provider.over_httpx2(),
    )
    client = adapt(sdk)
    for _ in range(2):
        await client.send(ASKED)
    assert [sent.headers["authorization"] for sent in provider.seen] == ["Bearer token-one", "Bearer token-two"]
    assert provider.seen[0].url.path == "/openai/deployments/mine/chat/completions"


@pytest.mark.parametrize("azure", [False, True], ids=["openai", "azure"])
async def test_form(azure):
    """A form goes out with all that is in it; Azure's client takes the deployment from it."""
    provider = answering({"text": "Hello."})
    if azure:
        sdk = openai.AsyncAzureOpenAI(
            api_key=KEY,
            api_version="2024-10-21",
            base_url="https://azure.test/openai",
            http_client=provider.over_httpx2(),
        )
    else:
        sdk = sdk_of(provider)
    fields = {"temperature": "0", "model": "ears", "timestamp_granularities[]": ["word", "segment"], "prompt": "Ä"}
    form = httpx.Request("POST", URL, data=fields, files={"file": ("a.mp3", b"\x00\r\n--", "audio/mpeg")})
    request = Request("whisper", Form(form.read(), form.headers["content-type"]), "audio/transcriptions")
    assert (await adapt(sdk).send(request)).data == {"text": "Hello."}
    (sent,) = provider.seen
    place = "azure.test/openai/deployments/whisper" if azure else "provider.test/v1"
    assert str(sent.url).split("?")[0] == f"https://{place}/audio/transcriptions"
    content, content_type = await sent.aread(), sent.headers["content-type"]
    parts = parts_of(content, content_type)
    assert sorted((*part[:3], content[part.value]) for part in parts if part.filename is None) == [
        ("model", None, "", b"whisper"),
        ("prompt", None, "", "Ä".encode()),
        ("temperature", None, "", b"0"),
        ("timestamp_granularities[]", None, "", b"segment"),
        ("timestamp_granularities[]", None, "", b"word"),
    ]
    (file,) = (part for part in parts if part.filename is not None)
    assert (*file[:3], content[file.value]) == ("file", "a.mp3", "audio/mpeg", b"\x00\r\n--")


async def test_speech():
    """Sound comes back as it is."""
    provider = Provider(content=b"\x00sound", headers={"content-type": "audio/mpeg"})
    response = await adapt(sdk_of(provider)).send(Request("tts", {"input": "Hi"}, "audio/speech"))
    assert response.content == b"\x00sound"


async def test_httpx_of_the_user():
    """An SDK client over httpx, as older ones are, is used all the same."""
    provider = answering(ANSWER)
    async with httpx.AsyncClient(transport=provider.over_httpx()) as http:
        sdk = sdk_of(provider, http_client=http)
        assert (await adapt(sdk).send(ASKED)).data == ANSWER


# -- what comes of it --------------------------------------------------------------------------------------------

ERRORS = [
    (400, {"error": {"message": "no", "type": "invalid_request_error", "code": "context_length_exceeded"}}, {}),
    (401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}, {}),
    (404, {"error": {"message": "The model does not exist", "code": "model_not_found"}}, {}),
    (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, {"retry-after": "7"}),
    (500, {"error": {"message": "oops", "type": "server_error"}}, {"x-request-id": "req_1"}),
    (503, {"error": {"message": "overloaded"}}, {"x-should-retry": "false"}),
    (307, {}, {"location": "https://elsewhere.test/"}),
    (200, {"error": {"message": "quota", "code": "insufficient_quota"}}, {}),
    (200, {"choices": []}, {}),
    (200, {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}, {}),
]


@pytest.mark.parametrize(("status", "body", "headers"), ERRORS, ids=lambda value: str(value)[:40])
async def test_failure(status, body, headers):
    """An answer that is a failure is the same one as over our own HTTP; the SDK sends nothing again."""
    provider = answering(body, status=status)
    provider.headers |= headers
    own = OpenAIClient(api_key=SecretStr(KEY), base_url="https://provider.test/v1", http=provider.over_httpx())
    there = await failure_of(own, ASKED)
    provider.seen.clear()
    here = await failure_of(adapt(sdk_of(provider, max_retries=5)), ASKED)
    assert len(provider.seen) == 1
    for name in ("code", "message", "status", "retryable", "scope", "work", "request_id", "vendor", "hint"):
        assert getattr(here, name) == getattr(there, name), name


@pytest.mark.parametrize(
    ("error", "code", "work"),
    [
        (httpx2.ConnectError("refused"), "network", "not_sent"),
        (httpx2.ConnectTimeout(""), "timeout", "not_sent"),
        (httpx2.ReadTimeout(""), "timeout", "unknown"),
        (httpx2.RemoteProtocolError("cut"), "network", "unknown"),
        (httpx2.PoolTimeout(""), "pool_timeout", "not_sent"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_failure__no_answer(error, code, work):
    """What the SDK calls a connection error is told apart by its cause; it sends nothing again."""
    provider = Provider(raises=error)
    failure = await failure_of(adapt(sdk_of(provider, max_retries=5)), ASKED)
    assert (failure.code, failure.status, failure.work, len(provider.seen)) == (code, 0, work, 1)
    assert failure.__cause__.__cause__ is error


async def test_failure__in_a_stream():
    """A stream that breaks is told as one."""
    provider = Provider(content=EVENTS[:100], headers={"content-type": "text/event-stream"})
    with pytest.raises(ClientError) as caught:
        await read(adapt(sdk_of(provider)), ASKED)
    assert caught.value.code == "stream_read_error"


@pytest.mark.parametrize(
    ("error", "told"),
    [(openai.OpenAIError("the vault is closed"), "the vault is closed"), (LookupError("hunter2"), "LookupError")],
    ids=["the SDK's", "any other"],
)
async def test_failure__no_credential(error, told):
    """A callback of the SDK's user that has no token concerns the credential, and nothing is sent."""
    provider = answering(ANSWER)

    async def token():
        raise error

    failure = await failure_of(adapt(sdk_of(provider, api_key=token)), ASKED)
    assert (failure.code, failure.scope, failure.work) == ("auth_failed", "credential", "not_sent")
    assert told in failure.message
    assert "hunter2" not in failure.message
    assert failure.__cause__ is error
    assert not provider.seen


async def test_closed():
    """A client that its user closed is said to be closed."""
    provider = answering(ANSWER)
    sdk = sdk_of(provider)
    client = adapt(sdk)
    await sdk.close()
    failure = await failure_of(client, ASKED)
    assert (failure.code, failure.scope, failure.work) == ("client_closed", "local", "not_sent")


async def test_aclose():
    """The SDK's client is its user's, and stays open."""
    provider = answering(ANSWER)
    sdk = sdk_of(provider)
    await adapt(sdk).aclose()
    assert not sdk.is_closed()
    await sdk.close()


# -- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 401])
async def test_secret(status):
    """What a vendor repeats of the SDK's key or of its user's headers is taken out, whoever added it."""
    message = f"who is {KEY}, or cafe-cafe-cafe nor token-token; AsyncOpenAI/Python"
    provider = answering({"error": {"message": message}}, status=status)

    async def key():
        return KEY

    async def more(request):
        request.headers["x-later"] = "token-token"

    http = provider.over_httpx2(event_hooks={"request": [more]})
    sdk = sdk_of(provider, api_key=key, default_headers={"x-own": "cafe-cafe-cafe"}, http_client=http)
    failure = await failure_of(adapt(sdk), ASKED)
    assert failure.message == "who is [redacted], or [redacted] nor [redacted]; AsyncOpenAI/Python"
    assert "cafe" not in repr(failure.vendor)
    assert provider.seen[0].headers["authorization"] == f"Bearer {KEY}"


async def test_secret__no_answer():
    """Nor does an exception of the library tell it."""
    provider = Provider(raises=httpx2.ReadError(f"while sending Bearer {KEY}"))
    assert KEY not in str(await failure_of(adapt(sdk_of(provider)), ASKED))


async def test_secret__repr():
    """The client says what it is made of, and no more."""
    assert repr(adapt(sdk_of(answering(ANSWER)))) == "adapt(AsyncOpenAI)"


# -- bounds ------------------------------------------------------------------------------------------------------


async def test_clocks():
    """No clock of the SDK's cuts a call short: the runner has its own. The connection has ours."""
    provider = answering(ANSWER)
    await adapt(sdk_of(provider, timeout=0.001), connect_seconds=3.0).send(ASKED)
    clocks = provider.seen[0].extensions["timeout"]
    assert clocks == {"connect": 3.0, "read": None, "write": None, "pool": 3.0}


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_hook_that_reads(encoding):
    """A hook of the SDK's user may read the answer before we do: it is there all the same."""
    import gzip

    provider = answering(ANSWER)
    if encoding:
        provider.content = gzip.compress(provider.content)
        provider.headers["content-encoding"] = encoding

    async def look(response):
        await response.aread()

    http = provider.over_httpx2(event_hooks={"response": [look]})
    assert (await adapt(sdk_of(provider, http_client=http)).send(ASKED)).data == ANSWER


async def test_compressed():
    """A compressed answer is decompressed here, within its bound."""
    import gzip

    provider = answering(ANSWER)
    provider.content = gzip.compress(provider.content)
    provider.headers["content-encoding"] = "gzip"
    assert (await adapt(sdk_of(provider)).send(ASKED)).data == ANSWER
    assert provider.seen[0].headers["accept-encoding"] == "gzip"


# -- what can be adapted -----------------------------------------------------------------------------------------


def test_synchronous():
    """A synchronous client would hold up the event loop."""
    with openai.OpenAI(api_key=KEY) as sdk, pytest.raises(TypeError, match="use AsyncOpenAI"):
        adapt(sdk)


@pytest.mark.parametrize("other", [object(), httpx2.AsyncClient, "openai"])
def test_something_else(other):
    """What is no SDK's client is refused by its name."""
    with pytest.raises(TypeError, match=f"{type(other).__name__} is not a client that can be adapted"):
        adapt(other)


def test_subclass():
    """A class that a user made of the SDK's is one of those."""

    class Ours(openai.AsyncOpenAI):
        pass

    assert repr(adapt(Ours(api_key=KEY))) == "adapt(Ours)"


def test_no_sdk_is_imported():
    """Whoever adapts nothing has no SDK."""
    code = (
        "import sys, standby.clients as c\nc.adapt\n"
        "assert not {'openai', 'anthropic', 'httpx2'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
