"""The well-known servers that speak chat completions: where they are, what they call otherwise, and what they lack."""

import json
import re
from importlib.metadata import entry_points

import httpx
import pytest
from pydantic import SecretStr

from standby.clients import ClientError, ClientSettings, OpenAIClient, Request, client_maker
from standby.clients import _presets as presets
from standby.clients.dialects import ANSWERS, FEATURES, Reasoning, fitted
from standby.clients.dialects._chat import CHAT, Chat
from standby.clients.dialects._chat_server import ChatServer, keys_of
from tests.clients.openai_streams import HEL, STOP

pytestmark = pytest.mark.anyio

BASE_URLS = {
    "groq": "https://api.groq.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "deepseek": "https://api.deepseek.com",
    "together": "https://api.together.xyz/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "xai": "https://api.x.ai/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "ollama": "http://localhost:11434/v1",
    "vllm": "http://localhost:8000/v1",
}
SERVERS = {server.name: server for server in vars(presets).values() if isinstance(server, ChatServer)}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]}
HELLO = {"role": "user", "content": "Hello!"}
CALL = {"id": "call_0123456789", "type": "function", "function": {"name": "now", "arguments": "{}"}}


class Provider:
    """Keeps what was sent, and answers with a chat, or a stream of one."""

    def __init__(self, name, **settings):
        self.sent = []
        self.client = client_maker(name)(
            ClientSettings(
                name="it", api_key=SecretStr("secret-key-1"), http=httpx.MockTransport(self._answered), **settings
            )
        )

    @property
    def body(self):
        return json.loads(self.sent[-1].content)

    async def chat(self, *messages, drop=(), **body):
        return await self.client.send(Request("m", {"messages": list(messages or [HELLO]), **body}, drop=drop))

    def _answered(self, request):
        self.sent.append(request)
        if json.loads(request.content).get("stream"):
            events = HEL + STOP + b"data: [DONE]\n\n"
            return httpx.Response(200, content=events, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json=ANSWER)


def test_all_are_installed():
    """Each is a client that a provider can name."""
    assert SERVERS.keys() == BASE_URLS.keys()
    assert SERVERS.keys() <= {entry.name for entry in entry_points(group="standby.clients")}


@pytest.mark.parametrize("name", BASE_URLS)
async def test_base_url(name):
    """Where it is, unless the operator says otherwise; the key goes there as a bearer, and is seen nowhere else."""
    for base_url, there in [(None, BASE_URLS[name]), ("https://proxy.test/v1", "https://proxy.test/v1")]:
        provider = Provider(name, base_url=base_url)
        await provider.chat()
        assert str(provider.sent[0].url) == f"{there}/chat/completions"
        assert provider.sent[0].headers["authorization"] == "Bearer secret-key-1"
        assert "secret" not in f"{provider.client!r} {vars(provider.client)}"


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_data(server):
    """Every word of the tables is a feature, or a key of OpenAI's; each server names its pages."""
    features = {feature.name for feature in FEATURES} | set(ANSWERS)
    assert server.has.keys() <= features
    assert set(server.lacks) <= features | {"store"}
    assert server.has.keys().isdisjoint(server.lacks)
    assert all(re.fullmatch(r"[a-z-]+(\.[a-z-]+)+/\S+", page) for page in server.pages)
    assert {"answer_text", "system", "tools"} <= Chat(server).supports.keys()


@pytest.mark.parametrize(
    ("server", "feature"),
    [
        (name, feature)
        for name, server in SERVERS.items()
        for feature in server.lacks
        if keys_of(feature) and not feature.startswith("answer_")
    ],
)
async def test_lacks(server, feature):
    """What it lacks is refused before anything is sent, so that the next candidate can be asked; or left out and told."""
    wanted = {
        "logprobs": True,
        "n": 2,
        "json_schema": {"type": "json_schema", "json_schema": {"name": "a"}},
        "parallel_tool_calls": False,
        "tool_choice": "required",
        "store": True,
    }
    key = keys_of(feature)[0]
    provider = Provider(server)
    with pytest.raises(ClientError) as caught:
        await provider.chat(**{key: wanted.get(feature, "low")})
    assert (caught.value.code, caught.value.work, caught.value.vendor) == (
        *("unsupported_parameter", "not_sent"),
        {"param": feature},
    )
    assert not provider.sent
    response = await provider.chat(**{key: wanted.get(feature, "low")}, drop=[feature])
    assert (provider.body.keys(), response.dropped) == ({"model", "messages"}, (feature,))


@pytest.mark.parametrize("server", SERVERS)
async def test_defaults_ask_for_nothing(server):
    """A parameter at the value that it has when left out is no reason to refuse; the body goes through as it came."""
    nothing = {"n": 1, "logprobs": False, "parallel_tool_calls": True, "logit_bias": None, "store": False, "top_p": 1}
    provider = Provider(server)
    body = b'{ "model":"m", "messages":[{"role":"user","content":"Hello!"}], ' + json.dumps(nothing).encode()[1:]
    await provider.client.send(Request("m", body))
    assert provider.sent[0].content == body


@pytest.mark.parametrize("server", ["groq", "mistral", "ollama"])
async def test_names_of_speakers(server):
    """Names of speakers are refused, or taken out of each message."""
    provider = Provider(server)
    with pytest.raises(ClientError, match="names"):
        await provider.chat(HELLO | {"name": "ada"})
    response = await provider.chat(HELLO | {"name": "ada"}, HELLO, drop=["names"])
    assert (provider.body["messages"], response.dropped) == ([HELLO, HELLO], ("names",))


def _image(url, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


_TEXT = {"type": "text", "text": "What is this?"}
_INSIDE = {
    "image_data": _image("data:image/png;base64,iVBORw=="),
    "image_url": _image("https://files.example/a.png"),
    "file_data": {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
    "file_id": {"type": "file", "file": {"file_id": "file-1"}},
    "audio": {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
}


@pytest.mark.parametrize(
    ("server", "feature"),
    [(name, feature) for name, server in SERVERS.items() for feature in server.lacks if feature in _INSIDE],
)
async def test_lacks_inside(server, feature):
    """What stands in a content is refused as well, or taken out; a turn of nothing else goes with it."""
    provider = Provider(server)
    asked = [{"role": "user", "content": [_INSIDE[feature]]}, {"role": "user", "content": [_TEXT, _INSIDE[feature]]}]
    with pytest.raises(ClientError, match=feature) as caught:
        await provider.chat(*asked)
    assert (caught.value.code, provider.sent) == ("unsupported_parameter", [])
    response = await provider.chat(*asked, drop=[feature])
    left = "What is this?" if not SERVERS[server].takes_parts else [_TEXT]
    assert (provider.body["messages"], response.dropped) == ([{"role": "user", "content": left}], (feature,))


async def test_detail_of_an_image():
    """How closely to look is refused or left out, and the image stays; "auto" asks for nothing."""
    provider = Provider("fireworks")
    url = "https://files.example/a.png"
    asked = {"role": "user", "content": [_image(url, detail="low")]}
    with pytest.raises(ClientError, match="image_detail"):
        await provider.chat(asked)
    response = await provider.chat(asked, drop=["image_detail"])
    assert (provider.body["messages"][0]["content"], response.dropped) == ([_image(url)], ("image_detail",))
    usual = {"role": "user", "content": [_image(url, detail="auto")]}
    await provider.chat(usual)
    assert provider.body["messages"] == [usual]


async def test_strict_tools():
    """Where arguments are not kept to their schema, that is refused or left out, and the tool stays."""
    provider = Provider("ollama")
    function = {"name": "clock", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function | {"strict": True}}]
    with pytest.raises(ClientError, match="tool_strict"):
        await provider.chat(tools=tools)
    response = await provider.chat(tools=tools, drop=["tool_strict"])
    assert provider.body["tools"] == [{"type": "function", "function": function}]
    assert response.dropped == ("tool_strict",)


async def test_a_result_stays_with_its_call():
    """Though nothing of it is left: a call without a result is refused by everybody."""
    provider = Provider("ollama")
    result = {"role": "tool", "tool_call_id": "call_1", "content": [_INSIDE["image_url"]]}
    await provider.chat(HELLO, result, drop=["image_url"])
    assert provider.body["messages"] == [HELLO, result | {"content": []}]


@pytest.mark.parametrize("server", ["groq", "mistral", "deepseek", "together", "fireworks", "ollama", "vllm"])
async def test_developer(server):
    """Where there is no developer, the system speaks."""
    provider = Provider(server)
    await provider.chat({"role": "developer", "content": "Be brief."}, HELLO)
    assert [message["role"] for message in provider.body["messages"]] == ["system", "user"]


@pytest.mark.parametrize("server", ["mistral", "deepseek", "together", "ollama"])
async def test_max_tokens(server):
    """Where only the older name of the bound is known, it is called that."""
    provider = Provider(server)
    await provider.chat(max_completion_tokens=64)
    assert provider.body == {"model": "m", "messages": [HELLO], "max_tokens": 64}


async def test_mistral():
    """Its seed has another name, and its ids of calls are of nine letters and digits: others' are made so, alike."""
    provider = Provider("mistral")
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL | {"id": "abcDEF123"}]}
    results = [{"role": "tool", "tool_call_id": each, "content": "noon"} for each in ("call_0123456789", "abcDEF123")]
    await provider.chat(HELLO, calls, *results, seed=7)
    _, called, first, second = provider.body["messages"]
    ids = [call["id"] for call in called["tool_calls"]]
    assert ids == [first["tool_call_id"], second["tool_call_id"]]
    assert re.fullmatch("[a-zA-Z0-9]{9}", ids[0])
    assert (ids[1], provider.body["random_seed"]) == ("abcDEF123", 7)
    assert "seed" not in provider.body


async def test_mistral__its_own_ids():
    """Where nothing has to be changed the body goes through as it came."""
    provider = Provider("mistral")
    body = (
        b'{ "model":"m", "messages":[{"role":"user","content":"Hello!"}, {"role":"assistant","tool_calls":[{"id":'
        b'"abcDEF123","function":{"name":"now","arguments":"{}"}}]}, {"role":"tool","tool_call_id":"abcDEF123"}] }'
    )
    await provider.client.send(Request("m", body))
    assert provider.sent[0].content == body


@pytest.mark.parametrize(("server", "asks"), [("groq", True), ("mistral", False), ("together", False)])
async def test_counting(server, asks):
    """A stream is asked to count tokens where that may be asked; others do so unasked, and refuse to be."""
    provider = Provider(server)
    for body in ({}, {"stream_options": {"include_usage": True}}):
        request = Request("m", {"messages": [HELLO], **body}, count_tokens=True)
        async with provider.client.stream(request) as stream:
            assert await stream.read()
        assert ("stream_options" in provider.body) is asks


async def test_deepseek():
    """A content that is text in parts is one text there; thoughts of earlier turns come back in their words."""
    provider = Provider("deepseek")
    parts = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    await provider.chat({"role": "system", "content": parts}, HELLO)
    assert provider.body["messages"][0]["content"] == "Be brief.\n\nBe kind."
    wire = Chat(presets.DEEPSEEK)
    thought = {"role": "assistant", "content": "Hi.", "reasoning_content": "They greet."}
    conversation, dropped = fitted(CHAT.conversation({"messages": [HELLO, thought, HELLO]}), wire, ())
    assert json.loads(wire.written(conversation, "m", stream=False))["messages"][1] == thought
    assert not dropped


async def test_openrouter():
    """It takes a budget for thoughts, marks for the cache and documents by address."""
    wire = Chat(presets.OPENROUTER)
    content = [
        {"type": "text", "text": "Hello!", "cache_control": {"type": "ephemeral"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://a.example/a.pdf"}},
    ]
    body = {"messages": [HELLO | {"content": content}], "reasoning": {"max_tokens": 2000, "exclude": True}, "top_k": 5}
    conversation, dropped = fitted(CHAT.conversation(body), wire, ())
    assert json.loads(wire.written(conversation, "m", stream=False)) == body | {"model": "m"}
    assert not dropped


def test_thoughts_that_cannot_be_hidden():
    """A server that always shows its thoughts is not asked where they are to be hidden; the effort alone says nothing."""
    wire = Chat(presets.GROQ)
    asked = CHAT.conversation({"messages": [HELLO], "reasoning_effort": "low"})
    assert not wire.lacks(asked)
    for shown, lacks in [(True, set()), (False, {"reasoning"})]:
        hidden = CHAT.conversation({"messages": [HELLO], "reasoning": {"exclude": not shown}})
        assert hidden.reasoning == Reasoning(shown=shown)
        assert wire.lacks(hidden).keys() == lacks


async def test_messages():
    """What is asked in Anthropic's Messages becomes a chat, with the server's own words in it, and comes back as such."""
    provider = Provider("mistral")
    body = {"model": "c", "max_tokens": 64, "system": "Be brief.", "messages": [HELLO]}
    response = await provider.client.send(Request("m", body, "messages"))
    assert provider.sent[0].url.path == "/v1/chat/completions"
    assert provider.body["max_tokens"] == 64
    assert (response.data["type"], response.data["content"][0]["text"]) == ("message", "Hi.")


@pytest.mark.parametrize(("server", "path"), [("groq", "/openai/v1/responses"), ("together", "/v1/chat/completions")])
async def test_responses(server, path):
    """OpenAI's Responses go to servers that have them as they are; for others they become a chat."""
    provider = Provider(server)
    request = Request("m", {"model": "c", "input": "Hello!"}, "responses")
    if server == "groq":
        with pytest.raises(ClientError, match="no output"):
            await provider.client.send(request)
    else:
        assert (await provider.client.send(request)).data["output"][0]["content"][0]["text"] == "Hi."
    assert provider.sent[0].url.path == path


async def test_what_only_anthropic_has():
    """What there is beside Messages in Anthropic's API is nobody else's: that is told, and nothing is sent."""
    client = OpenAIClient(http=httpx.MockTransport(lambda _: pytest.fail("sent")))
    with pytest.raises(ClientError) as caught:
        await client.send(Request("m", {"requests": []}, "messages/batches"))
    assert (caught.value.code, caught.value.status) == ("unsupported_parameter", 400)
