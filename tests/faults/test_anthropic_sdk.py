"""The official `anthropic` SDK in front of the server: it sees answers, streams and errors as it would from Anthropic."""

import asyncio
import signal
from contextlib import asynccontextmanager

import anthropic
import anyio.to_thread
import orjson
import pytest

from standby.clients.dialects import Answer, Choice, Text, ToolCall
from standby.demo.faults import FaultServer, Raw, chat_answer
from standby.proxy import bound_socket, create_app, run_server
from standby.runner import open_gateway
from tests.vendors.anthropic import body_of, error_of, events_of, sent

pytestmark = pytest.mark.anyio

HELLO = Answer("msg_01", "claude-opus-4-6", (Choice((Text("Hello."),), "stop"),))
CALL = Answer(
    "msg_02", "claude-opus-4-6", (Choice((Text("Let me see."), ToolCall("toolu_1", "f", '{"a": 1}')), "tool_calls"),)
)
TOOLS = [{"name": "f", "description": "", "input_schema": {"type": "object", "properties": {}}}]


def whole(status, headers, body):
    content = orjson.dumps(body)
    fields = {"content-length": str(len(content)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return Raw(f"HTTP/1.1 {status} said\r\n{head}\r\n".encode() + content)


def message(answer):
    return whole(200, {"content-type": "application/json"}, body_of(answer))


def failed(status, text="x"):
    return whole(*error_of(status, text))


def stream(*events):
    """A streamed answer that ends with its connection."""
    return Raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + b"".join(events))


START, PING, BLOCK, HEL, LO, *END = events_of(HELLO)
ERROR = sent("error", error={"type": "overloaded_error", "message": "Overloaded"})


@asynccontextmanager
async def serving(*scripts, client="anthropic"):
    """A server whose model `chat` has a candidate for each script; its address."""
    providers = [FaultServer(script) for script in scripts]
    async with asyncio.timeout(30):
        for provider in providers:
            await provider.__aenter__()
        try:
            async with gateway([provider.url for provider in providers], client) as url:
                yield url
        finally:
            for provider in providers:
                await provider.__aexit__(None, None, None)


@asynccontextmanager
async def gateway(urls, client):
    names = [f"c{number}" for number in range(len(urls))]
    candidates = [
        {"id": name, "provider": name, "model": "claude-opus-4-6", "priority": rank} for rank, name in enumerate(names)
    ]
    model = {"runner_policy": "bare", "candidates": [{**each, "runtime_policy": "once"} for each in candidates]}
    suffix = "/v1" if client == "openai" else ""
    document = {
        "version": 1,
        "server": {
            "keys": [{"name": "app", "key": "sk-app"}, {"name": "other", "key": "sk-other", "models": ["other"]}]
        },
        "providers": {
            name: {"client": client, "base_url": url + suffix} for name, url in zip(names, urls, strict=True)
        },
        "runtime_policies": {"once": {"retryPolicy": {"maxAttempts": 1}}},
        "models": {"chat": model, "other": model},
    }
    listens = asyncio.Queue()
    async with open_gateway(document) as opened:
        app = create_app(opened.runner, opened.document.server)
        with bound_socket("127.0.0.1", 0) as listening:
            task = asyncio.create_task(run_server(app, listening, listens.put_nowait))
            try:
                yield (await listens.get()).removeprefix("listening on ")
                signal.raise_signal(signal.SIGTERM)
                await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def sdk(*scripts, key="sk-app", client="anthropic"):
    async with (
        serving(*scripts, client=client) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as made,
    ):
        yield made


ASKED = {"model": "chat", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_plain_answer_is_read():
    """Words and tokens, from the second candidate when the first is overloaded."""
    async with sdk(failed(529), message(HELLO)) as client:
        answer = await client.messages.create(**ASKED)
    assert (answer.content[0].text, answer.stop_reason, answer.model) == ("Hello.", "end_turn", "claude-opus-4-6")


async def test_the_synchronous_client_reads_it_too():
    """Plain and streamed."""

    def ask(url):
        with anthropic.Anthropic(base_url=url, api_key="sk-app", max_retries=0) as client:
            with client.messages.stream(**ASKED) as told:
                return "".join(told.text_stream)

    async with serving(stream(START, PING, BLOCK, HEL, LO, *END)) as url:
        assert await anyio.to_thread.run_sync(ask, url) == "Hello."


async def test_a_stream_is_read():
    """Its events are put together to the message that they tell."""
    async with sdk(stream(*events_of(CALL))) as client:
        async with client.messages.stream(**ASKED, tools=TOOLS) as told:
            words = "".join([text async for text in told.text_stream])
            answer = await told.get_final_message()
    assert (words, answer.content[1].name, answer.content[1].input) == ("Let me see.", "f", {"a": 1})
    assert answer.stop_reason == "tool_use"


async def test_tools_and_their_results():
    """A call comes, and its result goes."""
    asked = []

    def script(_, __, ___, ____, body):
        asked.append(orjson.loads(body))
        return message(HELLO if len(asked) > 1 else CALL)

    async with sdk(script) as client:
        first = await client.messages.create(**ASKED, tools=TOOLS)
        result = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "2", "is_error": False}
        turns = [
            *ASKED["messages"],
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        await client.messages.create(**{**ASKED, "messages": turns}, tools=TOOLS)
    assert asked[1]["messages"][2]["content"] == [result]
    assert [block["type"] for block in asked[1]["messages"][1]["content"]] == ["text", "tool_use"]


async def test_any_vendor_answers():
    """What another vendor says is read as if Claude had said it."""
    async with sdk(chat_answer("Hello."), client="openai") as client:
        answer = await client.messages.create(**ASKED)
    assert (answer.content[0].text, answer.stop_reason, answer.id[:4]) == ("Hello.", "end_turn", "msg_")


async def test_tokens_are_counted():
    """By the vendor."""
    async with sdk(whole(200, {"content-type": "application/json"}, {"input_tokens": 14})) as client:
        counted = await client.messages.count_tokens(model="chat", messages=ASKED["messages"])
    assert counted.input_tokens == 14


async def test_tokens_are_estimated():
    """Where the vendor is another."""
    async with sdk(chat_answer("x"), client="openai") as client:
        counted = await client.messages.count_tokens(model="chat", messages=ASKED["messages"])
    assert 0 < counted.input_tokens < 100


async def test_the_models_are_listed():
    """With the same key, where Anthropic's clients put it."""
    async with sdk(message(HELLO)) as client:
        listed = await client.get("/v1/models", cast_to=object)
    assert [model["id"] for model in listed["data"]] == ["chat", "other"]


@pytest.mark.parametrize(
    ("script", "options", "raised"),
    [
        (message(HELLO), {"key": "sk-wrong"}, anthropic.AuthenticationError),
        (message(HELLO), {"key": "sk-other"}, anthropic.PermissionDeniedError),
        (failed(400), {}, anthropic.BadRequestError),
        (failed(401), {}, anthropic.InternalServerError),
        (failed(413), {}, anthropic.RequestTooLargeError),
        (failed(429), {}, anthropic.RateLimitError),
        (failed(500), {}, anthropic.InternalServerError),
        (failed(529), {}, anthropic.InternalServerError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_errors_are_the_sdks_own(script, options, raised, streamed):
    """Each status becomes the exception that it would be from Anthropic, plain and streamed."""
    async with sdk(script, **options) as client:
        with pytest.raises(raised) as caught:
            await client.messages.create(**ASKED, stream=streamed)
    assert "(run " in caught.value.message
    assert caught.value.body["type"] == "error"


async def test_an_unknown_model_is_not_found():
    """404."""
    async with sdk(message(HELLO)) as client:
        with pytest.raises(anthropic.NotFoundError, match="No model is named"):
            await client.messages.create(**{**ASKED, "model": "ghost"})


@pytest.mark.parametrize("broken", [stream(), stream(START, PING), stream(START, BLOCK, ERROR), stream(START, *END)])
async def test_what_fails_before_the_first_content_is_not_seen(broken):
    """The SDK reads the next candidate's stream."""
    async with sdk(broken, stream(START, BLOCK, HEL, LO, *END)) as client:
        async with client.messages.stream(**ASKED) as told:
            assert await told.get_final_text() == "Hello."


@pytest.mark.parametrize("broken", [stream(START, BLOCK, HEL), stream(START, BLOCK, HEL, ERROR)])
async def test_a_break_after_the_first_content_raises(broken):
    """The SDK does not take a beginning for the whole."""
    said = []
    async with sdk(broken, message(HELLO)) as client:
        with pytest.raises(anthropic.APIStatusError, match="The stream broke"):
            async with client.messages.stream(**ASKED) as told:
                async for text in told.text_stream:
                    said.append(text)  # noqa: PERF401
    assert "".join(said) == "Hel"


async def test_a_stream_without_its_last_event_has_one_all_the_same():
    """It said why it ended: the answer is whole."""
    async with sdk(stream(START, BLOCK, HEL, LO, *END[:-1])) as client:
        async with client.messages.stream(**ASKED) as told:
            kinds = [event.type async for event in told]
    assert kinds[-1] == "message_stop"
