"""Anthropic's SDK in front of the server, with every kind of vendor behind it: it sees Anthropic's API."""

import json

import anthropic
import pytest

from tests.clients.examples import CALLS, WEATHER
from tests.vendors.server import BREAKS
from tests.vendors.serving import KINDS, vendors_served

pytestmark = pytest.mark.anyio

TOOLS = [{"name": WEATHER.name, "input_schema": WEATHER.parameters}]
CALLED = [(call.id, call.name, json.loads(call.arguments)) for call in CALLS]


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def client():
    """The SDK, pointed at the server."""
    async with (
        vendors_served() as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="sk-app", max_retries=0) as client,
    ):
        yield client


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def ask(client, request):
    """Ask a model for something, whole or as a stream that the SDK puts together."""

    async def asked(model, words, **more):
        parts = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": words}], **more}
        if not request.param:
            return await client.messages.create(**parts)
        async with client.messages.stream(**parts) as stream:
            return await stream.get_final_message()

    return asked


@pytest.mark.parametrize("kind", KINDS)
async def test_a_text(ask, kind):
    """Words, why they end, tokens, and an id like Anthropic's."""
    answer = await ask(kind, "text")
    assert [(block.type, block.text) for block in answer.content] == [("text", "Hello there.")]
    assert (answer.stop_reason, answer.role, answer.id[:4]) == ("end_turn", "assistant", "msg_")
    assert answer.usage.output_tokens == 10


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_tools(ask, kind):
    """Several in one turn, after what was said."""
    answer = await ask(kind, "tools", tools=TOOLS)
    text, *calls = answer.content
    assert text.text == "Let me see."
    assert [(call.id, call.name, call.input) for call in calls] == CALLED
    assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize("kind", KINDS)
async def test_results_of_tools_go_back(ask, kind):
    """The whole exchange, as the SDK sends it back."""
    said = (await ask(kind, "tools", tools=TOOLS)).content
    results = [{"type": "tool_result", "tool_use_id": ident, "content": "21 degrees"} for ident, *_ in CALLED]
    messages = [
        {"role": "user", "content": "tools"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": [*results, {"type": "text", "text": "length"}]},
    ]
    assert (await ask(kind, "", tools=TOOLS, messages=messages)).stop_reason == "max_tokens"


@pytest.mark.parametrize("kind", KINDS)
async def test_thoughts(ask, kind):
    """They stand before the words."""
    thought, text = (await ask(kind, "thoughts")).content
    assert (thought.type, thought.thinking, text.text) == ("thinking", "Hm.", "Hello there.")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal(ask, kind):
    """Whichever way the vendor says it."""
    assert (await ask(kind, "refusal")).stop_reason == "refusal"


@pytest.mark.parametrize("trouble", ["overloaded", "cut before content"])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_one_answers(ask, kind, trouble):
    """From each kind of vendor to Anthropic, and from it to each."""
    for pair in (f"{kind}, then anthropic", f"anthropic, then {kind}"):
        assert (await ask(pair, trouble)).content[0].text == "Hello there."


@pytest.mark.parametrize("trouble", [trouble for trouble in BREAKS if trouble.endswith("after content")])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_breaks_is_an_error(client, kind, trouble):
    """It is never ended as if it were complete."""
    messages = [{"role": "user", "content": trouble}]
    with pytest.raises(anthropic.APIError):
        async with client.messages.stream(model=kind, max_tokens=100, messages=messages) as stream:
            await stream.get_final_message()


@pytest.mark.parametrize(
    ("trouble", "raised"),
    [
        ("bad_request", anthropic.BadRequestError),
        ("rate_limit", anthropic.RateLimitError),
        ("server_error", anthropic.InternalServerError),
        ("overloaded", anthropic.InternalServerError),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_errors_are_the_sdks_own(ask, kind, trouble, raised):
    """Whichever vendor failed."""
    with pytest.raises(raised) as failed:
        await ask(kind, trouble)
    assert failed.value.body["error"]["message"]


@pytest.mark.parametrize("kind", KINDS)
async def test_tokens_are_counted(client, kind):
    """By the vendor, or as good as can be."""
    counted = await client.messages.count_tokens(model=kind, messages=[{"role": "user", "content": "text"}])
    assert counted.input_tokens > 0
