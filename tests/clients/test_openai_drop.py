"""What is left out of a call in OpenAI's own dialect, and that nothing else of it is touched."""

import json

import pytest

from standby.clients import ClientError, Request
from tests.clients.openai_streams import HEL, LO, STOP

pytestmark = pytest.mark.anyio

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]}


@pytest.fixture
def route(provider):
    return provider.post(path__regex=".*").respond(200, json=ANSWER | {"data": []})


def asked(drop, endpoint="chat/completions", **body):
    return Request("gpt", {"model": "chat", "messages": [], **body}, endpoint, drop=drop)


def sent(route):
    return json.loads(route.calls.last.request.content)


@pytest.mark.parametrize(
    ("drop", "body", "kept", "dropped"),
    [
        (["seed"], {"seed": 7, "n": 2}, {"n": 2}, ("seed",)),
        (["seed"], {"seed": None}, {}, ("seed",)),
        (["seed"], {"n": 2}, {"n": 2}, ()),
        (["min_p", "seed"], {"min_p": 0.1, "seed": 7}, {}, ("min_p", "seed")),
        (["max_tokens"], {"max_tokens": 7, "max_completion_tokens": 7}, {}, ("max_tokens",)),
        (["max_completion_tokens"], {"max_tokens": 7}, {"max_tokens": 7}, ()),
        (["logprobs"], {"logprobs": True, "top_logprobs": 2}, {}, ("logprobs",)),
        (["reasoning"], {"reasoning_effort": "low"}, {}, ("reasoning",)),
        (["user"], {"user": "a", "safety_identifier": "b"}, {}, ("user",)),
        (["json_schema"], {"response_format": {"type": "json_schema"}}, {}, ("json_schema",)),
        (["json_schema"], {"response_format": {"type": "text"}}, {"response_format": {"type": "text"}}, ()),
        (["response_format"], {"response_format": {"type": "text"}}, {}, ("response_format",)),
        (["cache", "thinking"], {"thinking": {"type": "enabled"}}, {"thinking": {"type": "enabled"}}, ()),
    ],
)
async def test_plain(route, client, drop, body, kept, dropped):
    """A feature is left out under each of its keys, anything else under its own; it is told by the operator's word."""
    response = await client.send(asked(drop, **body))
    assert sent(route) == {"model": "gpt", "messages": [], **kept}
    assert set(response.dropped) == set(dropped)


async def test_other_endpoints(route, client):
    """It is so wherever a body goes."""
    response = await client.send(asked(["dimensions"], "embeddings", input="Hello!", dimensions=8))
    assert sent(route) == {"model": "gpt", "messages": [], "input": "Hello!"}
    assert response.dropped == ("dimensions",)


async def test_stream(provider, client):
    """A stream tells it too."""
    events = HEL + LO + STOP + b"data: [DONE]\n\n"
    route = provider.post("/chat/completions").respond(
        200, content=events, headers={"content-type": "text/event-stream"}
    )
    async with client.stream(asked(["seed"], seed=7)) as stream:
        assert stream.dropped == ("seed",)
    assert sent(route) == {"model": "gpt", "messages": [], "stream": True}


async def test_untouched(route, client):
    """What has nothing to leave out keeps every byte but the model's name."""
    body = b'{ "model":"chat", "messages":[],  "x":1.50, "big":123456789012345678901 }'
    await client.send(Request("gpt", body, drop=frozenset({"seed", "cache"})))
    assert route.calls.last.request.content == body.replace(b'"chat"', b'"gpt"')


@pytest.mark.parametrize("body", [b"[]", b"{"])
async def test_no_object(client, body):
    """A body that is none is refused as ever."""
    with pytest.raises(ClientError) as caught:
        await client.send(Request("gpt", body, drop=["seed"]))
    assert (caught.value.code, caught.value.work) == ("bad_request", "not_sent")
