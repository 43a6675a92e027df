"""A client of Amazon Bedrock: where its calls go, how they are signed, and what a caller is told."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import anyio
import anyio.abc
import anyio.from_thread
import httpx
import orjson
import pytest
import respx
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import SecretStr

from standby.clients import ClientError, ClientSettings, ProviderClient, Request, StreamingClient, Usage, client_maker
from standby.clients._bedrock import BedrockClient
from standby.clients.dialects import Answer, Choice, Text, Thinking, ToolCall
from tests.vendors import bedrock

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
KEY_ID, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token-0123456789"
KEYS = {"access_key_id": SecretStr(KEY_ID), "secret_access_key": SecretStr(SECRET)}
MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "Hello!"}]}
PARTS = (Thinking("Hm.", "QQ=="), Text("Hi there."), ToolCall("tooluse_1", "clock", '{"zone":"UTC"}'))
ANSWER = Answer("", "", (Choice(PARTS, "tool_calls"),), Usage(30, 5, cached_tokens=10, cache_write_tokens=5))


@pytest.fixture
def provider():
    """Bedrock's side: what it answers."""
    return respx.MockRouter(assert_all_called=False)


@pytest.fixture
def make(provider, monkeypatch):
    """Makes a client of that provider, at a fixed time, on a machine that knows nothing of AWS."""
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    def made(**fields):
        http = httpx.MockTransport(provider.async_handler)
        return BedrockClient(**{"region": "eu-central-1", "http": http, "clock": lambda: NOW, **fields})

    return made


def request(**fields):
    return Request(**{"model": MODEL, "body": HELLO, **fields})


def answered(provider):
    return provider.post().respond(200, json=bedrock.body_of(ANSWER), headers={"x-amzn-requestid": "5b1f2d3c"})


def streamed(provider, content):
    headers = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "5b1f2d3c"}
    return provider.post().respond(200, content=content, headers=headers)


async def told(stream):
    """The chunks of a stream, to its end."""
    chunks = []
    while (block := await stream.read()) is not None:
        chunks += [orjson.loads(chunk.content) for chunk in block.chunks()]
    return chunks


# -- calls -------------------------------------------------------------------------------------------------------


async def test_response(provider, make):
    """A caller of chat completions is answered as OpenAI would; what Bedrock does not tell is known otherwise."""
    route = answered(provider)
    client = make(**KEYS)
    assert isinstance(client, ProviderClient)
    response = await client.send(request())
    assert route.calls.last.request.url.raw_path.decode() == (
        "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse"
    )
    assert json.loads(route.calls.last.request.content) == {
        "messages": [{"role": "user", "content": [{"text": "Hello!"}]}]
    }
    completion = ChatCompletion.model_validate(response.data)
    assert (completion.id, completion.model, completion.created) == ("chatcmpl-5b1f2d3c", MODEL, NOW)
    assert (completion.choices[0].finish_reason, completion.choices[0].message.content) == ("tool_calls", "Hi there.")
    assert response.usage == ANSWER.usage
    assert response.request_id == "5b1f2d3c"


async def test_stream(provider, make):
    """So is a caller that streams."""
    route = streamed(provider, bedrock.stream_of(ANSWER))
    client = make(**KEYS)
    assert isinstance(client, StreamingClient)
    async with client.stream(request(body=HELLO | {"stream": True})) as stream:
        chunks = [ChatCompletionChunk.model_validate(chunk) for chunk in await told(stream)]
    sent = route.calls.last.request
    assert sent.url.raw_path.decode().endswith("/converse-stream")
    assert sent.headers["accept"] == "application/vnd.amazon.eventstream"
    assert {(chunk.id, chunk.model) for chunk in chunks} == {("chatcmpl-5b1f2d3c", MODEL)}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hi there."
    assert (stream.finished, stream.usage) == (True, ANSWER.usage)


async def test_stream__breaks(provider, make):
    """An exception after the first words ends a stream as what it is; what was said before it was passed on."""
    begin = bedrock.event("messageStart", {"role": "assistant"})
    more = bedrock.event("contentBlockDelta", {"delta": {"text": "Hi"}, "contentBlockIndex": 0})
    streamed(provider, begin + more + bedrock.exception("throttlingException", "Too many tokens."))
    async with make(**KEYS).stream(request()) as stream:
        block = await stream.read()
        assert block.content
        with pytest.raises(ClientError) as caught:
            await told(stream)
    assert (caught.value.code, caught.value.message, caught.value.request_id) == (
        "rate_limit",
        "Too many tokens.",
        "5b1f2d3c",
    )


async def test_stream__broken_event(provider, make):
    """And so does an event whose sum is wrong."""
    begin = bedrock.event("messageStart", {"role": "assistant"})
    more = bedrock.event("contentBlockDelta", {"delta": {"text": "Hi"}, "contentBlockIndex": 0})
    streamed(provider, begin + more + more[:-1] + b"!")
    async with make(**KEYS).stream(request()) as stream:
        assert (await stream.read()).content
        with pytest.raises(ClientError, match="broken event") as caught:
            await told(stream)
    assert caught.value.code == "invalid_response"


async def test_stream__refused(provider, make):
    """A stream that does not begin fails as a plain call does."""
    status, headers, content = bedrock.error_of("ModelNotReadyException", "Model is not ready for inference.")
    provider.post().respond(status, headers=headers, content=content)
    with pytest.raises(ClientError) as caught:
        async with make(**KEYS).stream(request()):
            pass
    assert (caught.value.code, caught.value.request_id) == ("rate_limit", bedrock.REQUEST_ID)


async def test_unsupported(provider, make):
    """What Converse cannot do is refused by name before anything is sent, or left out where that is allowed."""
    route = answered(provider)
    with pytest.raises(ClientError, match="seed") as caught:
        await make(**KEYS).send(request(body=HELLO | {"seed": 1}))
    assert (caught.value.code, caught.value.work, route.called) == ("unsupported_parameter", "not_sent", False)
    response = await make(**KEYS).send(request(body=HELLO | {"seed": 1}, drop=["seed"]))
    assert response.dropped == ("seed",)


async def test_unsupported__endpoint(make):
    """So is what only other vendors have."""
    with pytest.raises(ClientError, match="nothing like embeddings") as caught:
        await make(**KEYS).send(request(endpoint="embeddings"))
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("fields", "model", "url"),
    [
        (
            {"region": "us-east-1"},
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.anthropic.claude-x",
            (
                "https://bedrock-runtime.us-east-1.amazonaws.com/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012"
                "%3Ainference-profile%2Feu.anthropic.claude-x/converse"
            ),
        ),
        ({"region": "x", "base_url": "http://127.0.0.1:8/a/"}, "m", "http://127.0.0.1:8/a/model/m/converse"),
    ],
)
async def test_address(provider, make, fields, model, url):
    """The region says where Bedrock is, unless that is told; a model may be an ARN, which is one part of the path."""
    route = answered(provider)
    await make(**KEYS, **fields).send(request(model=model))
    assert str(route.calls.last.request.url) == url


# -- signatures --------------------------------------------------------------------------------------------------


def signed_by_botocore(url, content, token=None):
    """The headers that botocore makes of a call at the fixed time."""
    call = AWSRequest("POST", url, {"content-type": "application/json"}, content)
    with patch.object(auth, "get_current_datetime", lambda: datetime.fromtimestamp(NOW, UTC)):
        auth.SigV4Auth(Credentials(KEY_ID, SECRET, token), "bedrock", "eu-central-1").add_auth(call)
    return call.headers


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_signature(provider, make, token):
    """A call is signed as botocore would sign it at that time."""
    route = answered(provider)
    more = {"session_token": SecretStr(token)} if token else {}
    await make(**KEYS, **more).send(request())
    sent = route.calls.last.request
    theirs = signed_by_botocore(str(sent.url), sent.content, token)
    for name in ("authorization", "x-amz-date", "x-amz-security-token"):
        assert sent.headers.get(name) == theirs.get(name)
    assert "SignedHeaders=content-type;host;x-amz-date" in sent.headers["authorization"]
    assert f"Credential={KEY_ID}/20231114/eu-central-1/bedrock/aws4_request" in sent.headers["authorization"]


async def test_signature__on_the_wire(make):
    """What is sent is what was signed, whichever library carries it: the host with its port, the path as it is."""
    received = b""
    body = json.dumps(bedrock.body_of(ANSWER)).encode()

    async def answer(stream):
        nonlocal received
        async with stream:
            while b"Hello!" not in received:
                received += await stream.receive()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            await stream.send(head.encode() + body)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client = make(**KEYS, base_url=f"http://127.0.0.1:{port}", http=None)
        with anyio.fail_after(30):
            await client.send(request())
        await client.aclose()
        tasks.cancel_scope.cancel()
    head = received.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    path = "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse"
    assert head[0] == f"POST {path} HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{port}"
    content = received.partition(b"\r\n\r\n")[2]
    signature = signed_by_botocore(f"http://127.0.0.1:{port}{path}", content)["authorization"]
    assert headers["authorization"] == signature


async def test_secrets(provider, make, caplog):
    """No part of a credential is in a repr, an error or a log, though the provider repeats all of it."""
    caplog.set_level("DEBUG")
    client = make(**KEYS, session_token=SecretStr(TOKEN), headers={"x-extra": SecretStr("extra-secret")})

    def echo(sent):
        return httpx.Response(403, json={"message": f"{sorted(sent.headers.items())}"})

    provider.post().mock(side_effect=echo)
    with pytest.raises(ClientError) as caught:
        await client.send(request())
    shown = [repr(client), repr(vars(client)), caplog.text, str(caught.value), repr(caught.value.vendor)]
    for secret in (KEY_ID, SECRET, TOKEN, "extra-secret"):
        assert not [text for text in shown if secret in text]


async def test_api_key(provider, make):
    """One of Bedrock's own keys is sent as it is, and nothing is signed."""
    route = answered(provider)
    await make(api_key=SecretStr("bedrock-api-key-0123456789")).send(request())
    sent = route.calls.last.request.headers
    assert sent["authorization"] == "Bearer bedrock-api-key-0123456789"
    assert "x-amz-date" not in sent


async def test_api_key__of_the_environment(provider, make, monkeypatch):
    """Where no credential was given a key in the environment is used, as AWS's own tools use it."""
    route = answered(provider)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-9876543210")
    await make().send(request())
    assert route.calls.last.request.headers["authorization"] == "Bearer bedrock-api-key-9876543210"
    await make(**KEYS).send(request())
    assert route.calls.last.request.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")


async def test_headers(provider, make):
    """The operator's headers win, an authorization over the signature."""
    route = answered(provider)
    own = {"user-agent": SecretStr("mine"), "authorization": SecretStr("Bearer other")}
    await make(base_url="https://bedrock.example", region=None, headers=own).send(request(headers={"X-A": "b"}))
    sent = route.calls.last.request.headers
    assert (sent["authorization"], sent["user-agent"], sent["x-a"]) == ("Bearer other", "mine", "b")
    assert "x-amz-date" not in sent


# -- credentials that are looked for -----------------------------------------------------------------------------


async def test_credentials__found(provider, make, monkeypatch):
    """Without credentials those are used that AWS's own tools would use; they are looked for once."""
    route = answered(provider)
    looked = []

    def look(_):
        looked.append(1)
        anyio.from_thread.run(anyio.wait_all_tasks_blocked)
        return Credentials(KEY_ID, SECRET)

    monkeypatch.setattr(Session, "get_credentials", look)
    client = make()
    assert looked == []
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(client.send, request())
    await client.send(request())
    assert (len(looked), f"Credential={KEY_ID}/" in route.calls.last.request.headers["authorization"]) == (1, True)


async def test_credentials__cancelled(make, monkeypatch):
    """Looking for them blocks nobody: a call that is given up while they are looked for ends at once."""
    looking, given_up = anyio.Event(), threading.Event()
    waited = []

    def look(_):
        anyio.from_thread.run_sync(looking.set)
        waited.append(given_up.wait(30))

    monkeypatch.setattr(Session, "get_credentials", look)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make().send, request())
        await looking.wait()
        tasks.cancel_scope.cancel()
    assert waited == []
    given_up.set()


async def test_credentials__of_the_environment(provider, make, monkeypatch):
    """Those in the environment are found by botocore itself."""
    route = answered(provider)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFTHEENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    await make().send(request())
    assert "Credential=AKIDOFTHEENVIRONMENT/" in route.calls.last.request.headers["authorization"]


async def test_credentials__renewed(provider, make, monkeypatch):
    """Those that expire are renewed before they do, in a thread; until then they are used."""
    route = answered(provider)
    renewed = []

    def renew():
        assert threading.current_thread() is not threading.main_thread()
        renewed.append(1)
        expiry = datetime.now(UTC) + timedelta(hours=1 if len(renewed) > 2 else 0, minutes=1)
        return {
            "access_key": f"AKIDNUMBER{len(renewed)}",
            "secret_key": SECRET,
            "token": TOKEN,
            "expiry_time": expiry.isoformat(),
        }

    def found(_):
        return RefreshableCredentials.create_from_metadata(renew(), renew, "test")

    monkeypatch.setattr(Session, "get_credentials", found)
    client = make()
    for _ in range(3):
        await client.send(request())
    names = [call.request.headers["authorization"].split("Credential=")[1].split("/")[0] for call in route.calls]
    assert names == ["AKIDNUMBER2", "AKIDNUMBER3", "AKIDNUMBER3"]


def none(_):
    return None


def broken(_):
    raise CredentialRetrievalError(provider="iam-role", error_msg="no route to host")


@pytest.mark.parametrize(
    ("look", "message"), [(none, "no credentials of AWS were found: give access_key_id"), (broken, "no route to host")]
)
async def test_credentials__none(make, monkeypatch, look, message):
    """Where there are none the credential is to blame, and nothing was sent; the next call looks again."""
    monkeypatch.setattr(Session, "get_credentials", look)
    client = make()
    for _ in range(2):
        with pytest.raises(ClientError, match=message) as caught:
            await client.send(request())
    failure = caught.value
    assert (failure.code, failure.scope, failure.work, failure.retryable) == (
        "auth_failed",
        "credential",
        "not_sent",
        False,
    )


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"region": None}, "region must be one of AWS's"),
        ({"region": "eu/../x"}, "region must be one of AWS's"),
        ({"region": None, "base_url": "https://b.example"}, "region is needed to sign calls"),
        ({"access_key_id": SecretStr(KEY_ID)}, "belong together"),
        ({"secret_access_key": SecretStr(SECRET)}, "belong together"),
        ({"session_token": SecretStr(TOKEN)}, "belong together"),
        ({**KEYS, "api_key": SecretStr("k-0123456789")}, "either a key or a signature"),
        ({"base_url": "ftp://x"}, "http or https address"),
    ],
)
def test_settings__refused(make, fields, message):
    """Settings that make no sense are refused in words that quote no secret."""
    with pytest.raises(ValueError, match=message) as caught:
        make(**fields)
    assert not [secret for secret in (KEY_ID, SECRET, TOKEN, "k-0123456789") if secret in str(caught.value)]


async def test_from_settings(provider):
    """The client is found by its name, and is told all that a provider's section may say."""
    route = answered(provider)
    client = client_maker("bedrock")(
        ClientSettings(
            name="aws",
            region="eu-west-3",
            base_url="https://bedrock.example/x",
            session_token=SecretStr(TOKEN),
            headers={"x-extra": SecretStr("1")},
            http=httpx.MockTransport(provider.async_handler),
            **KEYS,
        )
    )
    await client.send(request())
    sent = route.calls.last.request
    assert (sent.url.host, sent.headers["x-extra"], sent.headers["x-amz-security-token"]) == (
        "bedrock.example",
        "1",
        TOKEN,
    )
    assert "/eu-west-3/bedrock/" in sent.headers["authorization"]


def test_without_botocore():
    """Where botocore is missing the error names the extra that has it."""
    code = (
        "import sys, importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'botocore' else find(name, package)\n"
        "from standby.clients._bedrock import BedrockClient\n"
        "assert not [name for name in sys.modules if name.startswith('botocore')]\n"
        "try: BedrockClient(region='eu-central-1')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "the client bedrock needs botocore: pip install 'standby[bedrock]'\n"
