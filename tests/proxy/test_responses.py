"""The official `openai` SDK's `responses` in front of the server: native candidates, those of others, and failures."""

import json
from contextlib import asynccontextmanager

import httpx
import httpx2
import openai
import orjson
import pydantic
import pytest
from pydantic import SecretStr

from standby.clients import OpenAIClient
from standby.clients._gemini import GeminiClient
from standby.clients.dialects import Answer, Choice, Text, Thinking, ToolCall
from standby.proxy import create_app
from standby.runner import Runner
from standby.runner.testing import VirtualLoop
from standby.store import MemoryCatalog, parse
from tests.clients.dialects.responses_caller import EVENT
from tests.proxy.conftest import document
from tests.vendors import gemini

pytestmark = pytest.mark.anyio

KEY = SecretStr("sk-test-0123456789abcdef")
SIZE = 7
"""How many bytes a provider sends at a time."""

ASK = {"model": "chat", "input": "Hello!"}
CALL = ToolCall("call_1", "get_weather", '{"city": "Paris"}', "c2ln")
ANSWER = Answer("1", "m", (Choice((Thinking("A greeting."), Text("Hello!")), "stop"),), created=1)
TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
]


@pytest.fixture
def anyio_backend():
    """The SDK is one of asyncio."""
    return "asyncio", {"loop_factory": VirtualLoop}


class Pieces(httpx.AsyncByteStream):
    """A body that comes piece by piece; `cut` breaks off in the end."""

    def __init__(self, content, *, cut=False):
        self.content = content
        self.cut = cut

    async def __aiter__(self):
        for start in range(0, len(self.content), SIZE):
            yield self.content[start : start + SIZE]
        if self.cut:
            raise httpx.ReadError("cut")


class Provider:
    """A provider: what it answers to one call after the other, and what it was asked."""

    def __init__(self, make, base_url, *answers):
        self.answers = list(answers)
        self.asked = []
        self.client = make(api_key=KEY, base_url=base_url, http=httpx.MockTransport(self.answer))

    async def answer(self, request):
        self.asked.append((request.url.path, json.loads(await request.aread())))
        return self.answers.pop(0)


def native(*answers):
    return Provider(OpenAIClient, "https://openai.test/v1", *answers)


def google(*answers):
    return Provider(GeminiClient, "https://google.test/v1beta", *answers)


def sent(content, *, cut=False):
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(content, cut=cut))


def event(number, kind, **what):
    return f"event: {kind}\n".encode() + b"data: %b\n\n" % orjson.dumps(
        {"type": kind, "sequence_number": number, **what}
    )


BODY = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5.4",
    "status": "in_progress",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
SAID = {"type": "output_text", "text": "Hello", "annotations": []}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
WHOLE = {**BODY, "status": "completed", "output": [{**MESSAGE, "status": "completed", "content": [SAID]}]}
PLACE = {"item_id": "msg_1", "output_index": 0}
BEGIN = [
    event(0, "response.created", response=BODY),
    event(1, "response.output_item.added", output_index=0, item=MESSAGE),
    event(2, "response.content_part.added", **PLACE, content_index=0, part={**SAID, "text": ""}),
    event(3, "response.output_text.delta", **PLACE, content_index=0, delta="Hel", logprobs=[]),
]
STREAM = [
    *BEGIN,
    event(4, "response.output_text.delta", **PLACE, content_index=0, delta="lo", logprobs=[]),
    event(5, "response.output_text.done", **PLACE, content_index=0, text="Hello", logprobs=[]),
    event(6, "response.output_item.done", output_index=0, item=WHOLE["output"][0]),
    event(7, "response.completed", response=WHOLE),
]
FAILED = event(1, "response.failed", response={**BODY, "error": {"code": "server_error", "message": "It broke."}})


@asynccontextmanager
async def serving(policy=None, **providers):
    """The SDK, pointed at an application whose model `chat` has a candidate for each provider."""
    settings = parse(document(providers, policy=policy), clients=providers)
    makers = {name: (lambda _, client=provider.client: client) for name, provider in providers.items()}
    runner = Runner(MemoryCatalog(settings.snapshot()), clients=makers)
    transport = httpx2.ASGITransport(create_app(runner, settings.server))
    async with (
        runner,
        httpx2.AsyncClient(transport=transport) as http,
        openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key="-", max_retries=0, http_client=http) as client,
    ):
        yield client


async def test_native():
    """A server that has it gets what the caller sent, and the caller what it answers."""
    provider = native(httpx.Response(200, json=WHOLE))
    async with serving(native=provider) as client:
        said = await client.responses.create(**ASK, previous_response_id="resp_0")
    assert (said.id, said.output_text) == ("resp_1", "Hello")
    assert provider.asked == [("/v1/responses", {"model": "m", "input": "Hello!", "previous_response_id": "resp_0"})]


async def test_native__stream():
    """A stream of it comes through, and ends with its own last event."""
    provider = native(sent(b"".join(STREAM)))
    async with serving(native=provider) as client:
        events = [event async for event in await client.responses.create(**ASK, stream=True)]
    assert [event.sequence_number for event in events] == list(range(8))
    assert (events[-1].type, events[-1].response.output_text) == ("response.completed", "Hello")
    assert provider.asked[0][1] == {"model": "m", "input": "Hello!", "stream": True}


async def test_stream__no_other_end():
    """Nothing follows the last event: what ends a stream of chat is unknown here."""
    async with serving(native=native(sent(b"".join(STREAM)))) as client:
        response = await client.responses.with_raw_response.create(**ASK, stream=True)
        assert (await response.http_response.aread()).endswith(STREAM[-1])


async def test_translated():
    """Any other candidate answers as well: thoughts, text and tokens."""
    provider = google(httpx.Response(200, json=gemini.body_of(ANSWER)))
    async with serving(google=provider) as client:
        said = await client.responses.create(**ASK, instructions="Be kind.", reasoning={"summary": "auto"})
    [thought, message] = said.output
    assert (thought.summary[0].text, message.content[0].text, said.status) == ("A greeting.", "Hello!", "completed")
    assert said.id == "resp_1"


@pytest.mark.parametrize("stream", [False, True])
async def test_translated__call_and_result(stream):
    """What the model asked for goes back with its signature, and the result with it."""
    answer = Answer("1", "m", (Choice((CALL,), "tool_calls"),))
    first = sent(gemini.stream_of(answer)) if stream else httpx.Response(200, json=gemini.body_of(answer))
    provider = google(first, httpx.Response(200, json=gemini.body_of(ANSWER)))
    async with serving(google=provider) as client:
        if stream:
            async with client.responses.stream(**ASK, tools=TOOLS) as events:
                said = await events.get_final_response()
        else:
            said = await client.responses.create(**ASK, tools=TOOLS)
        [call] = said.output
        assert (call.call_id, call.name, json.loads(call.arguments)) == (CALL.id, CALL.name, {"city": "Paris"})
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
        turns = [{"role": "user", "content": "Hello!"}, *(item.to_dict() for item in said.output), result]
        await client.responses.create(model="chat", input=turns, tools=TOOLS)
    understood = gemini.conversation_of(provider.asked[1][1])
    assert understood.messages[1].parts[0].signature == CALL.signature
    assert understood.messages[-1].parts[0].parts == (Text("Rain."),)


async def test_translated__stream():
    """A stream of any other candidate is one of typed events, in which the SDK finds what it looks for."""
    async with serving(google=google(sent(gemini.stream_of(ANSWER)))) as client:
        async with client.responses.stream(**ASK) as events:
            heard = [event async for event in events]
            said = await events.get_final_response()
    assert said.output_text == "Hello!"
    assert "".join(event.delta for event in heard if event.type == "response.output_text.delta") == "Hello!"
    assert [event.sequence_number for event in heard] == list(range(len(heard)))


async def test_parse():
    """An answer that keeps to a schema is an object of the caller's."""

    class Greeting(pydantic.BaseModel):
        to: str

    answer = Answer("1", "m", (Choice((Text('{"to": "you"}'),), "stop"),))
    provider = google(httpx.Response(200, json=gemini.body_of(answer)))
    async with serving(google=provider) as client:
        said = await client.responses.parse(**ASK, text_format=Greeting)
    assert said.output_parsed == Greeting(to="you")


@pytest.mark.parametrize("answers", [[httpx.Response(500)], [sent(BEGIN[0] + FAILED)], [sent(BEGIN[0], cut=True)]])
async def test_failover(answers):
    """What fails before the first content is answered by the next candidate, whatever that speaks."""
    async with serving(native=native(*answers), google=google(sent(gemini.stream_of(ANSWER)))) as client:
        async with client.responses.stream(**ASK) as events:
            said = await events.get_final_response()
    assert said.output_text == "Hello!"


@pytest.mark.parametrize("rest", [{"content": b"".join(BEGIN), "cut": True}, {"content": b"".join(BEGIN) + FAILED}])
async def test_break(rest):
    """A stream that breaks ends with one error event, which the SDK raises, and is never completed."""
    async with serving(native=native(sent(**rest), sent(**rest)), google=google()) as client:
        heard = await client.responses.create(**ASK, stream=True)
        assert [(await anext(heard)).sequence_number for _ in BEGIN] == [0, 1, 2, 3]
        with pytest.raises(openai.APIError) as caught:
            await anext(heard)
        response = await client.responses.with_raw_response.create(**ASK, stream=True)
        *_, last = (await response.http_response.aread()).strip().split(b"\n\n")
    assert (caught.value.code, caught.value.type) == ("stream_interrupted", "upstream_error")
    name, _, data = last.partition(b"\n")
    told = orjson.loads(data.removeprefix(b"data: "))
    EVENT.validate_python(told)
    assert (name, told["type"], told["sequence_number"]) == (b"event: error", "error", 4)
    assert (told["code"], told["message"]) == (told["error"]["code"], told["error"]["message"])


async def test_what_nobody_else_can_do():
    """What only a native candidate can do makes the run go on to the next one; who has none is told by name."""
    policy = {"failoverPolicy": {"allowCodes": ["unsupported_parameter"]}}
    async with serving(policy, google=google(), native=native(httpx.Response(200, json=WHOLE))) as client:
        assert (await client.responses.create(**ASK, tools=[{"type": "web_search"}])).id == "resp_1"
    async with serving(google=google()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**ASK, previous_response_id="resp_0")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "previous_response_id")


async def test_bad_request():
    """What is no request is refused by its place."""
    async with serving(google=google()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="chat", input=[{"role": "robot", "content": "Hello!"}])
    assert caught.value.param == "input[0].role"


async def test_nobody_answers():
    """The SDK's own exceptions tell of it."""
    limited = httpx.Response(
        429, headers={"retry-after": "7"}, json={"error": {"message": "Slow.", "type": "requests"}}
    )
    async with serving(native=native(limited)) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.responses.create(**ASK, stream=True)
    assert caught.value.response.headers["retry-after"] == "7"
