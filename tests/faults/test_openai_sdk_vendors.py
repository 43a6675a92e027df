"""OpenAI's SDK in front of the server, with every kind of vendor behind it: it sees OpenAI's API."""

import json

import openai
import pytest

from tests.clients.examples import CALLS, WEATHER
from tests.vendors.server import BREAKS, REFUSALS
from tests.vendors.serving import KINDS, PAIRS, vendors_served

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def served():
    """The server's address."""
    async with vendors_served() as url:
        yield url


@pytest.fixture(scope="module")
async def chat(served):
    """OpenAI's SDK: asks a model for something."""
    async with openai.AsyncOpenAI(base_url=f"{served}/v1", api_key="sk-app", max_retries=0) as client:

        async def ask(model, words, **more):
            return await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": words}], **more
            )

        yield ask


TOOLS = [{"type": "function", "function": {"name": WEATHER.name, "parameters": WEATHER.parameters}}]


async def together(stream):
    """What a stream says, put together by its chunks: text, refusal, calls by index, why it ended."""
    said = {"content": "", "refusal": "", "reasoning": "", "calls": {}, "finish": None, "ids": set()}
    async for chunk in stream:
        said["ids"].add(chunk.id)
        for choice in chunk.choices:
            said["content"] += choice.delta.content or ""
            said["refusal"] += choice.delta.refusal or ""
            said["reasoning"] += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or ():
                known = said["calls"].setdefault(call.index, ["", "", ""])
                known[0] += call.id or ""
                known[1] += call.function.name or ""
                known[2] += call.function.arguments or ""
            said["finish"] = choice.finish_reason or said["finish"]
    return said


@pytest.mark.parametrize("kind", KINDS)
async def test_a_text(chat, kind):
    """Words, why they end, tokens, and an id like OpenAI's."""
    answer = await chat(kind, "text")
    assert answer.choices[0].message.content == "Hello there."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (20, 10, 30)
    assert (answer.object, answer.id[:9]) == ("chat.completion", "chatcmpl-")
    assert answer.created > 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_text_streamed(chat, kind):
    """The same in pieces, all of one id."""
    said = await together(await chat(kind, "text", stream=True))
    assert (said["content"], said["finish"], len(said["ids"])) == ("Hello there.", "stop", 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_tools(chat, kind):
    """Several in one turn, with arguments that are the JSON that the model wrote."""
    answer = await chat(kind, "tools", tools=TOOLS)
    calls = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        (call.id, call.name, json.loads(call.arguments)) for call in CALLS
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_tools_streamed(chat, kind):
    """Each under its own index."""
    said = await together(await chat(kind, "tools", tools=TOOLS, stream=True))
    assert said["finish"] == "tool_calls"
    assert {
        index: (ident, name, json.loads(arguments)) for index, (ident, name, arguments) in said["calls"].items()
    } == {index: (call.id, call.name, json.loads(call.arguments)) for index, call in enumerate(CALLS)}


@pytest.mark.parametrize("kind", KINDS)
async def test_results_of_tools_go_back(chat, served, kind):
    """The whole exchange, as the SDK sends it back."""
    async with openai.AsyncOpenAI(base_url=f"{served}/v1", api_key="sk-app", max_retries=0) as client:
        said = (await chat(kind, "tools", tools=TOOLS)).choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": "21 degrees"} for call in said.tool_calls]
        messages = [{"role": "user", "content": "tools"}, said, *results, {"role": "user", "content": "length"}]
        answer = await client.chat.completions.create(model=kind, messages=messages, tools=TOOLS)
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", KINDS)
async def test_thoughts(chat, kind, stream):
    """OpenAI has no place for them; they stand where DeepSeek and others put them."""
    answer = await chat(kind, "thoughts", stream=stream)
    if stream:
        assert (await together(answer))["reasoning"] == "Hm."
    else:
        assert answer.choices[0].message.reasoning_content == "Hm."


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal(chat, kind, stream):
    """In the model's words where the vendor has them; else as filtered."""
    answer = await chat(kind, "refusal", stream=stream)
    if stream:
        said = await together(answer)
        refusal, finish = said["refusal"], said["finish"]
    else:
        refusal, finish = answer.choices[0].message.refusal, answer.choices[0].finish_reason
    assert (refusal, finish) == ("I will not.", "stop") if KINDS[kind] in REFUSALS else finish == "content_filter"


@pytest.mark.parametrize("trouble", ["rate_limit", "server_error", "overloaded", "cut after content"])
@pytest.mark.parametrize("pair", PAIRS)
async def test_the_next_one_answers(chat, pair, trouble):
    """From each kind of vendor to each: whoever calls sees an answer."""
    assert (await chat(pair, trouble)).choices[0].message.content == "Hello there."


@pytest.mark.parametrize("trouble", ["overloaded", "cut before content", "error before content"])
@pytest.mark.parametrize("pair", PAIRS)
async def test_the_next_one_streams(chat, pair, trouble):
    """What broke before its first content is not seen."""
    assert (await together(await chat(pair, trouble, stream=True)))["content"] == "Hello there."


@pytest.mark.parametrize("trouble", [trouble for trouble in BREAKS if trouble.endswith("after content")])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_breaks_is_an_error(chat, kind, trouble):
    """It is never ended as if it were complete."""
    with pytest.raises(openai.APIError):
        await together(await chat(f"{kind}, then openai", trouble, stream=True))


@pytest.mark.parametrize(
    ("trouble", "raised"),
    [
        ("bad_request", openai.BadRequestError),
        ("rate_limit", openai.RateLimitError),
        ("server_error", openai.InternalServerError),
        ("overloaded", openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", KINDS)
async def test_errors_are_the_sdks_own(chat, kind, stream, trouble, raised):
    """Whichever vendor failed."""
    with pytest.raises(raised) as failed:
        await chat(kind, trouble, stream=stream)
    assert failed.value.body["message"]


@pytest.mark.parametrize("kind", ["anthropic", "gemini", "bedrock"])
async def test_what_a_vendor_cannot_do_is_refused_as_openai_would(chat, kind):
    """By its name, as a fault of the request."""
    with pytest.raises(openai.BadRequestError) as refused:
        await chat(kind, "text", logit_bias={"50256": -100})
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "logit_bias")
