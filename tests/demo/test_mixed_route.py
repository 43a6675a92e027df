"""The demonstration's chat goes from one vendor's API to another's, and whoever calls cannot tell which it was."""

import openai
import pytest

from standby.demo._document import document, key_in_environment
from standby.demo._providers import Progress
from standby.demo._servers import Servers
from tests.proxy.listening import serving

pytestmark = pytest.mark.anyio

WHO = ("birch", "cedar", "oak")
HELLO = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def sdk(tmp_path):
    """OpenAI's SDK, pointed at the gateway that `standby demo --serve` keeps up, before anything fails."""
    with key_in_environment():
        async with (
            Servers(Progress(1)) as servers,
            serving(document(servers.urls, tmp_path)) as gateway,
            openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
        ):
            yield client


async def ask(sdk, name, **more):
    """What one of the candidates answers."""
    only = {"x-standby-candidates": name}
    return await sdk.chat.completions.create(model="chat", messages=HELLO, extra_headers=only, **more)


def shape(value):
    """What there is in an answer, and of what type: all but the words."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value)


async def test_the_route_is_mixed(tmp_path):
    """Three vendors' APIs behind one model."""
    async with Servers(Progress(1)) as servers:
        raw = document(servers.urls, tmp_path)
    clients = [raw["providers"][candidate["provider"]]["client"] for candidate in raw["models"]["chat"]["candidates"]]
    assert clients == ["openai", "anthropic", "gemini", "openai"]


async def test_whole_answers_are_alike(sdk):
    """Anthropic's and Gemini's are as OpenAI's own: fields, types, kinds of values, the words but for the name."""
    answers = {name: await ask(sdk, name) for name in WHO}
    assert {name: answer.choices[0].message.content for name, answer in answers.items()} == {
        name: f"Hello from {name}." for name in WHO
    }
    shapes = [shape(answer.model_dump()) for answer in answers.values()]
    assert shapes[0] == shapes[1] == shapes[2]
    for answer in answers.values():
        assert answer.id.startswith("chatcmpl-")
        assert (answer.object, answer.choices[0].finish_reason, answer.usage.total_tokens) == (
            "chat.completion",
            "stop",
            6,
        )


async def test_streams_are_alike(sdk):
    """Chunk by chunk."""
    streams = {name: [chunk async for chunk in await ask(sdk, name, stream=True)] for name in WHO}
    for name, chunks in streams.items():
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert said == f"Hello from {name}, word by word."
        assert all(chunk.id.startswith("chatcmpl-") for chunk in chunks)
    shapes = [[shape(chunk.model_dump()) for chunk in chunks] for chunks in streams.values()]
    assert shapes[0] == shapes[1] == shapes[2]
