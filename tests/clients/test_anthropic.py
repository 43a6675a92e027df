"""The Anthropic client: where calls go and as whom, its own dialect passed on, and others translated."""

import json

import httpx
import orjson
import pytest
from pydantic import SecretStr

from standby.clients import (
    AnthropicClient,
    Body,
    ClientError,
    ClientSettings,
    Request,
    Usage,
    client_maker,
    counts_tokens,
    estimated_count,
)
from standby.clients.dialects import InvalidRequest
from tests.clients.anthropic_streams import KEY, WHOLE, client_of, failure, provider, request
from tests.clients.openai_streams import heard

pytestmark = pytest.mark.anyio

EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
TEXT = {"type": "text", "text": "Hello."}


def message(*content, stop_reason="end_turn", **more):
    usage = {"input_tokens": 4, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1, "output_tokens": 3}
    head = {"id": "msg_01", "type": "message", "role": "assistant", "model": "claude-opus-4-6-20260205"}
    return {**head, "content": list(content), "stop_reason": stop_reason, "stop_sequence": None, "usage": usage, **more}


@pytest.fixture
def router():
    return provider()


@pytest.fixture
def client(router):
    return client_of(router)


async def test_a_request_in_its_own_dialect_is_passed_on(router, client):
    """Every byte but the model's name; the answer too, and its tokens are counted, those of the cache among them."""
    route = router.post("/messages").respond(json=message(TEXT), headers={"request-id": "req_01"})
    body = b'{"model": "chat",  "max_tokens": 1e2, "messages": [], "context_management": {"edits": []}}'
    answer = await client.send(request(body))
    assert route.calls.last.request.content == body.replace(b'"chat"', b'"claude-opus-4-6"')
    assert answer.data == message(TEXT)
    assert answer.usage == Usage(input_tokens=7, output_tokens=3, cached_tokens=2, cache_write_tokens=1)
    assert (answer.request_id, answer.dropped) == ("req_01", ())


async def test_the_key_is_on_the_wire_and_nowhere_else(router, client):
    """With the version of the API, which must be named."""
    route = router.post("/messages").respond(json=message(TEXT))
    await client.send(request())
    sent = route.calls.last.request
    assert (sent.headers["x-api-key"], sent.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in sent.headers
    assert KEY not in repr(client)


async def test_the_key_is_in_no_error(router, client):
    """Though the vendor repeats it."""
    said = {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key: {KEY}"}}
    router.post("/messages").respond(401, json=said)
    error = await failure(client)
    assert KEY not in f"{error!r} {error} {error.vendor}"


def thought(signature, text="Hm."):
    return {"type": "thinking", "thinking": text, "signature": signature}


OTHERS = [
    thought("gemini:QQ=="),
    thought("gemini:Qg==", ""),
    {"type": "redacted_thinking", "data": "other:QQ=="},
]


@pytest.mark.parametrize("endpoint", ["messages", "messages/count_tokens"])
async def test_others_thoughts_are_left_out(router, client, endpoint):
    """A conversation that another vendor had a part in goes on: its signed thoughts are left out, and that is told."""
    route = router.post(f"/{endpoint}").respond(json=message(TEXT) | {"input_tokens": 7})
    mine = [thought("QQ=="), thought(""), {"type": "redacted_thinking", "data": "Qg=="}, TEXT]
    turns = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": [*OTHERS, *mine]},
        {"role": "assistant", "content": OTHERS},
        {"role": "user", "content": [TEXT]},
    ]
    asked = {"model": "chat", "max_tokens": 9, "messages": turns}
    with pytest.raises(ClientError, match="thinking") as caught:
        await client.send(request(asked, endpoint))
    assert (caught.value.code, route.called) == ("unsupported_parameter", False)
    answer = await client.send(request(asked, endpoint, drop=("thinking", "cache")))
    assert answer.dropped == ("thinking",)
    sent = orjson.loads(route.calls.last.request.content)
    assert sent["messages"] == [turns[0], {"role": "assistant", "content": mine}, turns[3]]


async def test_its_own_thoughts_are_passed_on(router, client):
    """Byte by byte, as all is; what only looks like another's in a text is no thought."""
    route = router.post("/messages").respond(json=message(TEXT))
    said = {
        "role": "assistant",
        "content": [thought("QQ=="), {"type": "text", "text": '"thinking" "signature": "a:b"'}],
    }
    body = orjson.dumps({"model": "claude-opus-4-6", "messages": [said]})
    answer = await client.send(request(body, drop=("thinking",)))
    assert (route.calls.last.request.content, answer.dropped) == (body, ())


@pytest.mark.parametrize(
    "base_url", ["https://anthropic.test", "https://anthropic.test/v1", "https://anthropic.test/v1/"]
)
async def test_the_address_may_have_its_version_or_not(router, base_url):
    """As people write it for one SDK or another."""
    route = router.post("/messages").respond(json=message(TEXT))
    await client_of(router, base_url=base_url).send(request())
    assert str(route.calls.last.request.url) == "https://anthropic.test/v1/messages"


async def test_headers_of_the_provider_win(router):
    """For a server that wants a bearer token, or a later version."""
    route = router.post("/messages").respond(json=message(TEXT))
    headers = {"Authorization": SecretStr("Bearer token"), "Anthropic-Version": SecretStr("2030-01-01")}
    await client_of(router, api_key=None, headers=headers).send(request())
    sent = route.calls.last.request.headers
    assert (sent["authorization"], sent["anthropic-version"], "x-api-key" in sent) == (
        "Bearer token",
        "2030-01-01",
        False,
    )


async def test_betas_of_the_caller_go_to_anthropic(router, client):
    """And to nobody else."""
    route = router.post("/messages").respond(json=message(TEXT))
    await client.send(request(headers={"anthropic-beta": "files-api-2025-04-14", "traceparent": "00-1-1-01"}))
    sent = route.calls.last.request.headers
    assert (sent["anthropic-beta"], sent["traceparent"]) == ("files-api-2025-04-14", "00-1-1-01")


async def test_betas_of_the_caller_go_to_nobody_else():
    """Another vendor would not know them."""
    seen = []

    def answer(sent):
        seen.append(sent.headers)
        return httpx.Response(
            200, json={"choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": "stop"}]}
        )

    other = client_maker("openai")(
        ClientSettings(name="o", base_url="https://openai.test/v1", http=httpx.MockTransport(answer))
    )
    await other.send(
        Request("m", {"model": "chat", "messages": []}, headers={"anthropic-beta": "x", "traceparent": "t"})
    )
    assert ("anthropic-beta" in seen[0], seen[0]["traceparent"]) == (False, "t")


def test_it_is_found_by_its_name():
    """As a provider's section names it."""
    client = client_maker("anthropic")(ClientSettings(name="a", api_key=SecretStr(KEY)))
    assert isinstance(client, AnthropicClient)
    assert repr(client) == "AnthropicClient('https://api.anthropic.com')"


# -- what is left out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drop", "gone", "dropped"),
    [
        ({"metadata"}, {"metadata"}, {"metadata"}),
        ({"stop"}, {"stop_sequences"}, {"stop"}),
        ({"user"}, {"metadata"}, {"user"}),
        ({"temperature", "seed"}, {"temperature"}, {"temperature"}),
        ({"cache", "thinking"}, set(), set()),
    ],
)
async def test_what_an_operator_leaves_out_is_left_out_and_told(router, client, drop, gone, dropped):
    """By the key's own name, or by the feature's; what is not there is not told."""
    route = router.post("/messages").respond(json=message(TEXT))
    body = {
        "model": "chat",
        "max_tokens": 9,
        "messages": [],
        "metadata": {"user_id": "u"},
        "stop_sequences": ["x"],
        "temperature": 0.5,
        "thinking": {"type": "adaptive"},
    }
    answer = await client.send(request(body, drop=drop))
    assert body.keys() - json.loads(route.calls.last.request.content).keys() == gone
    assert set(answer.dropped) == dropped


async def test_how_much_to_think_is_left_out_and_the_rest_of_its_key_stays(router, client):
    """An effort stands beside the form of the answer."""
    route = router.post("/messages").respond(json=message(TEXT))
    form = {"type": "json_schema", "schema": {}}
    body = {"model": "chat", "output_config": {"effort": "low", "format": form}, "thinking": {"type": "adaptive"}}
    answer = await client.send(request(body, drop={"reasoning"}))
    assert json.loads(route.calls.last.request.content) == {
        "model": "claude-opus-4-6",
        "output_config": {"format": form},
    }
    assert answer.dropped == ("reasoning",)


# -- answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        message({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, stop_reason="tool_use"),
        message({"type": "thinking", "thinking": "", "signature": "c2ln"}),
        message({"type": "redacted_thinking", "data": "c2ln"}),
        message({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}),
        message(stop_reason="refusal"),
        message(stop_reason="pause_turn"),
        message(stop_reason="max_tokens", usage={"input_tokens": 1, "output_tokens": 0}),
        message(stop_reason="max_tokens", usage={"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 9}}),
    ],
    ids=["tool", "signature", "redacted", "server tool", "refusal", "pause", "cache only", "thoughts only"],
)
async def test_an_answer_without_words_is_one_where_it_is_clear_why(router, client, said):
    """Calls, thoughts, a refusal; and a request for no tokens, which fills the cache."""
    router.post("/messages").respond(json=said)
    assert (await client.send(request())).data == said


@pytest.mark.parametrize("content", [(), ({"type": "text", "text": ""},)])
async def test_an_empty_answer_is_a_failure(router, client, content):
    """Nobody can do anything with it."""
    router.post("/messages").respond(json=message(*content))
    error = await failure(client)
    assert (error.code, error.status, error.retryable, error.work) == ("empty_response", 200, True, "billed")


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"type":"message"}', b'{"content":{}}', b'{"content":[1]}'])
async def test_what_is_no_message_is_a_failure(router, client, content):
    """A success that does not keep its promise."""
    router.post("/messages").respond(200, content=content)
    assert (await failure(client)).code == "invalid_response"


async def test_a_plain_call_cannot_ask_for_a_stream(client):
    """It would be answered with one."""
    error = await failure(client, request({"model": "chat", "stream": True}))
    assert (error.code, error.status) == ("unsupported_parameter", 400)


# -- translated --------------------------------------------------------------------------------------------------


async def test_chat_is_translated(router, client):
    """The caller speaks OpenAI's dialect, and hears it."""
    route = router.post("/messages").respond(json=message(TEXT))
    body = {
        "model": "chat",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}],
    }
    answer = await client.send(request(body, "chat/completions"))
    assert json.loads(route.calls.last.request.content) == {
        "model": "claude-opus-4-6",
        "max_tokens": 32768,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi!"}]}],
    }
    [choice] = answer.data["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello.", "stop")
    assert answer.data["usage"]["prompt_tokens"] == 7
    assert json.loads(answer.content) == answer.data


async def test_chat_is_translated__streamed(router, client):
    """Event by event."""
    router.post("/messages").respond(200, content=b"".join(WHOLE), headers=EVENTS)
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hi!"}]}
    async with client.stream(request(body, "chat/completions")) as stream:
        before, after, error = await heard(stream)
    assert error is None
    *events, end = (before + after).split(b"\n\n")[:-1]
    said = [orjson.loads(event.removeprefix(b"data: "))["choices"] for event in events]
    assert "".join(choices[0]["delta"].get("content") or "" for choices in said if choices) == "Hello"
    assert end == b"data: [DONE]"
    assert stream.usage == Usage(
        input_tokens=18, output_tokens=7, cached_tokens=5, cache_write_tokens=3, reasoning_tokens=2
    )


async def test_what_a_model_refuses_is_not_asked(client):
    """The newest take no temperature; another candidate may, or the operator lets it go."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hi!"}], "temperature": 0.2}
    error = await failure(client, request(body, "chat/completions", model="claude-opus-4-7"))
    assert (error.code, error.work) == ("unsupported_parameter", "not_sent")
    assert "temperature (not with this model)" in error.message


async def test_what_only_openai_has_is_refused_by_name(client):
    """There is nothing like it."""
    error = await failure(client, request({"model": "chat", "input": "x"}, "embeddings"))
    assert (error.code, error.message) == ("unsupported_parameter", "anthropic has nothing like embeddings")


# -- counting ----------------------------------------------------------------------------------------------------


async def test_tokens_are_counted_by_the_vendor(router, client):
    """Passed on as it came; nothing is used for it."""
    route = router.post("/messages/count_tokens").respond(json={"input_tokens": 14})
    answer = await client.send(request(b'{"model":"chat","messages":[]}', "messages/count_tokens"))
    assert route.calls.last.request.content == b'{"model":"claude-opus-4-6","messages":[]}'
    assert (answer.data, answer.usage, answer.dropped) == ({"input_tokens": 14}, Usage(), ())


async def test_a_count_must_be_one(router, client):
    """A success that does not keep its promise."""
    router.post("/messages/count_tokens").respond(json={"input_tokens": "many"})
    assert (await failure(client, request(endpoint="messages/count_tokens"))).code == "invalid_response"


def test_tokens_are_estimated_where_nobody_counts_them():
    """A fourth of the bytes, as limits have it."""
    body = Body({"model": "chat", "messages": [{"role": "user", "content": "a" * 400}]})
    assert estimated_count(body) == {"input_tokens": len(body.encoded()) // 4}


def test_what_is_no_request_is_not_estimated():
    """It is refused as it would be if it were sent."""
    with pytest.raises(InvalidRequest, match="messages must be a list, not a string"):
        estimated_count(Body({"model": "chat", "messages": "Hi"}))


def test_who_can_count_says_so(client):
    """Others are not asked."""
    assert counts_tokens(client)
    assert not counts_tokens(client_maker("openai")(ClientSettings(name="o")))
