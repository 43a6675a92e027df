"""The official `openai` SDK in front of the server: it sees answers, streams and errors as it would from OpenAI."""

import asyncio
import signal
from contextlib import asynccontextmanager

import openai
import orjson
import pytest

from standby.demo.faults import Close, FaultServer, Raw, chat_answer, error_answer
from standby.proxy import bound_socket, create_app, run_server
from standby.runner import open_gateway

pytestmark = pytest.mark.anyio

DONE = b"data: [DONE]\n\n"


def chunk(delta, finish_reason=None, **more):
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **more,
    }
    return b"data: " + orjson.dumps(body) + b"\n\n"


def stream(*events):
    """A streamed answer that ends with its connection."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return Raw(head + b"".join(events))


ROLE = chunk({"role": "assistant", "content": ""})
HELLO = [ROLE, chunk({"content": "Hel"}), chunk({"content": "lo."}), chunk({}, "stop")]
USAGE = chunk({}, choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
TOOL_CALLS = [
    chunk({"role": "assistant", "content": None}),
    chunk(
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    chunk({}, "tool_calls"),
]


@asynccontextmanager
async def sdk(*scripts, key="sk-app", policy=None, limits=None):
    """The SDK, pointed at a server whose model `chat` has a candidate for each script."""
    providers = [FaultServer(script) for script in scripts]
    async with asyncio.timeout(30):
        for provider in providers:
            await provider.__aenter__()
        try:
            async with (
                serving([provider.url for provider in providers], policy, limits) as url,
                openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
            ):
                yield client
        finally:
            for provider in providers:
                await provider.__aexit__(None, None, None)


@asynccontextmanager
async def serving(urls, policy, limits):
    names = [f"c{number}" for number in range(len(urls))]
    candidates = [
        {"id": name, "provider": name, "model": "m", "priority": rank, "runtime_policy": "own"}
        for rank, name in enumerate(names)
    ]
    document = {
        "version": 1,
        "server": {
            "keys": [{"name": "app", "key": "sk-app"}, {"name": "other", "key": "sk-other", "models": ["other"]}]
        },
        "providers": {n: {"client": "openai", "base_url": f"{url}/v1"} for n, url in zip(names, urls, strict=True)},
        "runner_policies": {"own": policy or {}},
        "runtime_policies": {"own": {"retryPolicy": {"maxAttempts": 1}, "rateLimitPolicy": limits or {}}},
        "models": {
            name: {"runner_policy": "own", "candidates": candidates, "queue": {"maxWaiting": 0}}
            for name in ("chat", "other")
        },
    }
    listens = asyncio.Queue()
    async with open_gateway(document) as gateway:
        app = create_app(gateway.runner, gateway.document.server)
        with bound_socket("127.0.0.1", 0) as listening:
            task = asyncio.create_task(run_server(app, listening, listens.put_nowait))
            try:
                yield (await listens.get()).removeprefix("listening on ")
                signal.raise_signal(signal.SIGTERM)
                await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def ask(client, **more):
    return await client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}], **more)


async def test_a_plain_answer_is_read():
    """Text and usage, from the second candidate when the first is down."""
    async with sdk(error_answer(500), chat_answer("Hello.")) as client:
        assert (await ask(client)).choices[0].message.content == "Hello."


@pytest.mark.parametrize(
    ("script", "options", "raised"),
    [
        (chat_answer("x"), {"key": "sk-wrong"}, openai.AuthenticationError),
        (chat_answer("x"), {"key": "sk-other"}, openai.PermissionDeniedError),
        (error_answer(500), {}, openai.InternalServerError),
        (error_answer(401), {}, openai.InternalServerError),
        (error_answer(429), {}, openai.RateLimitError),
        (error_answer(400), {}, openai.BadRequestError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_errors_are_the_sdks_own(script, options, raised, streamed):
    """Each status becomes the exception that it would be from OpenAI, plain and streamed."""
    async with sdk(script, **options) as client:
        with pytest.raises(raised) as caught:
            await ask(client, stream=streamed)
    assert "(run " in caught.value.message


async def test_an_unknown_model_is_not_found():
    """404."""
    async with sdk(chat_answer("x")) as client:
        with pytest.raises(openai.NotFoundError, match="No model is named"):
            await client.chat.completions.create(model="ghost", messages=[])


async def test_the_models_are_listed():
    """`GET /v1/models`."""
    async with sdk(chat_answer("x")) as client:
        assert [model.id async for model in client.models.list()] == ["chat", "other"]


async def test_the_text_of_a_stream_is_read():
    """Each event, to the finish reason."""
    async with sdk(stream(*HELLO, DONE)) as client:
        chunks = [chunk async for chunk in await ask(client, stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello."
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_tool_calls_of_a_stream_are_read():
    """Put together by index, as the SDK's users do."""
    async with sdk(stream(*TOOL_CALLS, DONE)) as client:
        chunks = [chunk async for chunk in await ask(client, stream=True)]
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (calls[0].function.name, "".join(call.function.arguments or "" for call in calls)) == ("f", '{"a":1}')


async def test_usage_of_a_stream_is_there_where_it_was_asked_for():
    """The last event counts the tokens."""
    async with sdk(stream(*HELLO, USAGE, DONE)) as client:
        chunks = [chunk async for chunk in await ask(client, stream=True, stream_options={"include_usage": True})]
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 5)


async def test_usage_that_only_we_asked_for_is_hidden():
    """A limit on tokens asks for the count; the caller, who did not, does not see it."""
    asked = []

    def script(_, __, ___, ____, body):
        asked.append(orjson.loads(body)["stream_options"])
        return stream(*HELLO, USAGE, DONE)

    async with sdk(script, limits={"tokensPerMinute": 1000}) as client:
        chunks = [chunk async for chunk in await ask(client, stream=True)]
    assert asked == [{"include_usage": True}]
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.parametrize("broken", [stream(), stream(ROLE), stream(ROLE, b'data: {"error": {"message": "x"}}\n\n')])
async def test_what_fails_before_the_first_content_is_not_seen(broken):
    """The SDK reads the next candidate's stream."""
    async with sdk(broken, stream(*HELLO, DONE)) as client:
        chunks = [chunk async for chunk in await ask(client, stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello."


@pytest.mark.parametrize(
    "broken",
    [
        stream(*HELLO[:2]),
        Close(len(stream(*HELLO[:2]).content) + 5, stream(*HELLO)),
        stream(*HELLO[:2], b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'),
    ],
)
async def test_a_break_after_the_first_content_raises(broken):
    """The SDK does not take a beginning for the whole."""
    said = []
    async with sdk(broken, stream(*HELLO, DONE)) as client:
        with pytest.raises(openai.APIError, match="The stream broke"):
            async for chunk in await ask(client, stream=True):
                said.append(chunk.choices[0].delta.content or "")  # noqa: PERF401
    assert "".join(said) == "Hel"
