"""Where calls to Gemini go, as whom, and what comes back of a call from a caller of another dialect."""

import json

import httpx
import pytest
from pydantic import SecretStr

from standby.clients import (
    ClientError,
    ClientSettings,
    GeminiClient,
    ProviderClient,
    Request,
    StreamingClient,
    Usage,
    client_maker,
)
from standby.clients.dialects import Answer, Choice, Text
from tests.vendors.gemini import body_of, error_of, stream_of, token_count_of

pytestmark = pytest.mark.anyio

KEY = "AIzaSyTest-0123456789-0123456789"
TOKEN = "ya29.test-0123456789abcdef"
ANSWER = Answer("resp1", "gemini-3-flash-preview", (Choice((Text("Hello there."),), "stop"),))
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi."}]}


class Google:
    """The provider's side: what it was asked, and the one answer that it gives."""

    def __init__(self):
        self.asked = []

    def __call__(self, request):
        self.asked.append(request)
        if "stream" in request.url.path:
            return httpx.Response(200, content=stream_of(ANSWER), headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json=body_of(ANSWER))

    @property
    def last(self):
        return self.asked[-1]


@pytest.fixture
def google():
    return Google()


def client_of(google, **settings):
    return GeminiClient(**settings, http=httpx.MockTransport(google), clock=lambda: 1_700_000_000.0)


def request(model="gemini-3-flash-preview", **fields):
    return Request(model, BODY | fields)


async def read(client, asked):
    async with client.stream(asked) as stream:
        blocks = []
        while (block := await stream.read()) is not None:
            blocks.append(block.raw)
    return b"".join(blocks).decode()


def test_protocols(google):
    """It keeps the protocols."""
    client = client_of(google, api_key=SecretStr(KEY))
    assert isinstance(client, ProviderClient)
    assert isinstance(client, StreamingClient)


async def test_send(google):
    """A chat's call is Gemini's on its way, and a chat's answer when it comes back."""
    response = await client_of(google, api_key=SecretStr(f" {KEY}\n")).send(request(temperature=0.5))
    assert str(google.last.url) == (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-flash-preview:generateContent"
    )
    assert google.last.headers["x-goog-api-key"] == KEY
    assert "authorization" not in google.last.headers
    assert json.loads(google.last.content) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi."}]}],
        "generationConfig": {"temperature": 0.5},
    }
    [choice] = response.data["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello there.", "stop")
    assert (response.data["model"], response.data["created"]) == ("gemini-3-flash-preview", 1_700_000_000)


async def test_stream(google):
    """And so is a stream of it."""
    written = await read(client_of(google, api_key=SecretStr(KEY)), request(stream=True))
    assert google.last.url.path.endswith("/models/gemini-3-flash-preview:streamGenerateContent")
    assert dict(google.last.url.params) == {"alt": "sse"}
    assert (google.last.headers["accept"], google.last.headers["accept-encoding"]) == ("text/event-stream", "identity")
    chunks = [json.loads(line.removeprefix("data: ")) for line in written.split("\n\n") if line.startswith("data: {")]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(texts) == "Hello there."
    assert written.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("settings", "model", "url"),
    [
        (
            {"project": "my-project", "location": "europe-west4"},
            "gemini-2.5-pro",
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/my-project/locations/europe-west4/publishers/google/models/gemini-2.5-pro",
        ),
        (
            {"project": "my-project", "location": "global"},
            "gemini-2.5-pro",
            "https://aiplatform.googleapis.com/v1/projects/my-project/locations/global/publishers/google/models/gemini-2.5-pro",
        ),
        (
            {"project": "my-project", "location": "eu"},
            "endpoints/123",
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/my-project/locations/eu/endpoints/123",
        ),
        (
            {"project": "my-project", "location": "us-central1", "base_url": "https://proxy.test/v1beta1/"},
            "gemini-2.5-pro",
            "https://proxy.test/v1beta1/projects/my-project/locations/us-central1/publishers/google/models/gemini-2.5-pro",
        ),
        (
            {"base_url": "https://aiplatform.googleapis.com/v1/publishers/google"},
            "gemini-2.5-pro",
            "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-2.5-pro",
        ),
        ({}, "tunedModels/mine-1", "https://generativelanguage.googleapis.com/v1beta/tunedModels/mine-1"),
    ],
)
async def test_url(google, settings, model, url):
    """The Gemini API, Vertex AI in a region, in all of them and in express mode, each at its documented address."""
    await client_of(google, api_key=SecretStr(KEY), **settings).send(request(model))
    assert str(google.last.url) == f"{url}:generateContent"
    assert google.last.headers["x-goog-api-key"] == KEY


@pytest.mark.parametrize("model", ["", "a b", "a?b=c", "a#b", "../../x", "a/../b", "é", "a\r\nb", "x" * 501])
async def test_url__refused(google, model):
    """A name that would lead elsewhere is refused before anything is sent; another candidate may have a better one."""
    client = client_of(google, api_key=SecretStr(KEY))
    with pytest.raises(ClientError) as caught:
        await client.send(request(model))
    assert (caught.value.code, caught.value.work, caught.value.scope) == ("unsupported_model", "not_sent", "candidate")
    assert not google.asked


@pytest.mark.parametrize("kind", ["async", "sync", "sync that returns an awaitable"])
async def test_token(google, kind):
    """A token is asked for before each call, plain or streamed, and sent as a bearer's."""
    made = []

    def sync():
        made.append(f"{TOKEN}{len(made)}")
        return made[-1]

    async def later():
        return sync()

    def sooner():
        return later()

    token = {"async": later, "sync": sync, "sync that returns an awaitable": sooner}[kind]
    client = client_of(google, token=token, project="my-project", location="global")
    await client.send(request())
    await read(client, request())
    assert [call.headers["authorization"] for call in google.asked] == [f"Bearer {TOKEN}0", f"Bearer {TOKEN}1"]
    assert not any("x-goog-api-key" in call.headers for call in google.asked)


@pytest.mark.parametrize("told", ["", "  ", None, 7, "a\nb", RuntimeError("no metadata server at all")])
async def test_token__missing(google, told):
    """Where no token is to be had nothing is sent, the credential is to blame, and nothing of it is told."""

    def token():
        if isinstance(told, Exception):
            raise told
        return told

    client = client_of(google, token=token, project="my-project", location="global")
    with pytest.raises(ClientError, match="token") as caught:
        await client.send(request())
    assert (caught.value.code, caught.value.scope, caught.value.work) == ("auth_failed", "credential", "not_sent")
    assert "a\nb" not in str(caught.value)
    assert "metadata" not in str(caught.value)
    assert not google.asked


async def test_secrets(google):
    """Neither key nor token is in what the client shows, nor in an error that repeats it."""
    google_says = httpx.MockTransport(lambda sent: httpx.Response(400, json={"error": {"message": f"{sent.headers}"}}))
    for credential in ({"api_key": SecretStr(KEY)}, {"token": lambda: TOKEN}):
        client = GeminiClient(**credential, http=google_says)
        assert KEY not in repr(client)
        with pytest.raises(ClientError) as caught:
            await client.send(request())
        assert KEY not in str(caught.value) + repr(caught.value.vendor)
        assert TOKEN not in str(caught.value) + repr(caught.value.vendor)


async def test_headers(google):
    """Headers of one's own are sent with every call, and win."""
    client = client_of(
        google, api_key=SecretStr(KEY), headers={"X-Goog-Api-Key": SecretStr("mine"), "x-a": SecretStr("b")}
    )
    await client.send(request())
    await read(client, request())
    assert all((call.headers["x-goog-api-key"], call.headers["x-a"]) == ("mine", "b") for call in google.asked)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"api_key": SecretStr(KEY), "token": lambda: TOKEN}, "either api_key or token"),
        ({"project": "my-project"}, "together"),
        ({"location": "global"}, "together"),
        ({"project": "a/b", "location": "global"}, "ids of Google Cloud"),
        ({"project": "my-project", "location": "evil.test/"}, "ids of Google Cloud"),
        ({"base_url": "ftp://a.test"}, "http"),
        ({"headers": {"a b": SecretStr("c")}}, "header name"),
        ({"api_key": SecretStr("schlüssel")}, "x-goog-api-key"),
    ],
)
def test_settings__refused(google, settings, why):
    """What does not go together is refused when the client is made."""
    with pytest.raises(ValueError, match=why) as caught:
        client_of(google, **settings)
    assert KEY not in str(caught.value)


async def test_dropped(google):
    """What Gemini cannot do is refused by name before anything is sent, or left out and told."""
    client = client_of(google, api_key=SecretStr(KEY))
    with pytest.raises(ClientError, match="logit_bias") as caught:
        await client.send(request(logit_bias={"1": 5}))
    assert (caught.value.code, caught.value.work, len(google.asked)) == ("unsupported_parameter", "not_sent", 0)
    asked = Request("gemini-3-flash-preview", BODY | {"logit_bias": {"1": 5}}, drop=("logit_bias",))
    assert (await client.send(asked)).dropped == ("logit_bias",)
    async with client.stream(asked) as stream:
        assert stream.dropped == ("logit_bias",)


async def test_other_endpoints(google):
    """What is no conversation is refused, so that another candidate may have it."""
    client = client_of(google, api_key=SecretStr(KEY))
    with pytest.raises(ClientError, match="embeddings") as caught:
        await client.send(Request("gemini-3-flash-preview", {"input": "Hi."}, "embeddings"))
    assert (caught.value.code, len(google.asked)) == ("unsupported_parameter", 0)


def count(**fields):
    asked = {"model": "chat", "system": "Be kind.", "messages": [{"role": "user", "content": "Hi."}], **fields}
    return Request("gemini-3-flash-preview", asked, "messages/count_tokens")


ASKED = {
    "contents": [{"role": "user", "parts": [{"text": "Hi."}]}],
    "systemInstruction": {"parts": [{"text": "Be kind."}]},
}


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {"generateContentRequest": {"model": "models/gemini-3-flash-preview"} | ASKED}),
        ({"project": "my-project", "location": "global"}, ASKED),
        ({"base_url": "https://aiplatform.googleapis.com/v1/publishers/google"}, ASKED),
    ],
)
async def test_count_tokens(settings, sent):
    """Google counts what a request to Messages would ask, each API in its own form; nothing is used for it."""
    asked = []

    def answer(call):
        asked.append(call)
        return httpx.Response(200, json=token_count_of(31))

    client = client_of(answer, api_key=SecretStr(KEY), **settings)
    response = await client.send(count())
    assert asked[0].url.path.endswith("/models/gemini-3-flash-preview:countTokens")
    body = json.loads(asked[0].content)
    bound = body.get("generateContentRequest", body).pop("generationConfig")
    assert (body, bound) == (sent, {"maxOutputTokens": 1})
    assert (response.data, response.content, response.usage) == ({"input_tokens": 31}, b'{"input_tokens":31}', Usage())


async def test_count_tokens__failed(google):
    """What is no count, or a failure, is told as such; what cannot be asked is refused before anything is sent."""
    answers = [httpx.Response(200, json={"totalTokens": "many"}), httpx.Response(429, json=error_of(429, "Slow down."))]
    client = client_of(lambda _: answers.pop(0), api_key=SecretStr(KEY))
    for code in ("invalid_response", "rate_limit"):
        with pytest.raises(ClientError) as caught:
            await client.send(count())
        assert caught.value.code == code
    silent = client_of(google, api_key=SecretStr(KEY))
    for asked, code in (
        (count(messages="Hi."), "bad_request"),
        (count(top_k=1, metadata={"user_id": "a"}), "unsupported_parameter"),
    ):
        with pytest.raises(ClientError) as caught:
            await silent.send(asked)
        assert caught.value.code == code
    with pytest.raises(ClientError) as caught:
        await silent.send(Request("gemini-3-flash-preview", b"[]", "messages/count_tokens"))
    assert (caught.value.code, google.asked) == ("bad_request", [])


async def test_from_settings(google):
    """The installed client is made of what a provider's section says."""
    settings = ClientSettings(
        name="google",
        api_key=SecretStr(KEY),
        project="my-project",
        location="global",
        headers={"x-a": SecretStr("b")},
        http=httpx.MockTransport(google),
    )
    await client_maker("gemini")(settings).send(request())
    assert google.last.url.path.startswith("/v1/projects/my-project/locations/global/publishers/google/models/")
    assert (google.last.headers["x-goog-api-key"], google.last.headers["x-a"]) == (KEY, "b")
