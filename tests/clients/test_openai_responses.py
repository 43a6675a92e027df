"""A stream of OpenAI's Responses that is passed on as it came: what is content, what ends it, and how it fails."""

import httpx
import orjson
import pytest

from standby.clients import ClientError, OpenAIClient, Request, Usage
from standby.clients._breaks import MAX_SILENT_BYTES
from standby.clients._openai_responses import ResponsesStream
from standby.clients._presets import MISTRAL
from tests.clients.conftest import KEY, NOW
from tests.clients.openai_streams import CUT, DONE, Scripted, event, heard

pytestmark = pytest.mark.anyio

USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 21,
}
MESSAGE = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
WHOLE = {**MESSAGE, "status": "completed", "content": [{"type": "output_text", "text": "Hello", "annotations": []}]}


def told(kind, **what):
    return f"event: {kind}\n".encode() + event({"type": kind, "sequence_number": 0, **what})


def response(status, **what):
    body = {"id": "resp_1", "object": "response", "status": status, "error": None, "incomplete_details": None}
    return {**body, "output": [], "usage": None, **what}


def ended(status="completed", **what):
    return told(f"response.{status}", response=response(status, **what))


def item(kind, **what):
    return told("response.output_item.added", output_index=0, item={"id": "x_1", "type": kind, **what})


CREATED = told("response.created", response=response("in_progress"))
UNDER_WAY = told("response.in_progress", response=response("in_progress"))
ADDED = told("response.output_item.added", output_index=0, item=MESSAGE)
PART = told("response.content_part.added", output_index=0, part={"type": "output_text", "text": "", "annotations": []})
HEL, LO = (told("response.output_text.delta", output_index=0, delta=words, logprobs=[]) for words in ("Hel", "lo"))
SAID = told("response.output_text.done", output_index=0, text="Hello", logprobs=[])
COMPLETED = ended(output=[WHOLE], usage=USAGE)
BEGIN = [CREATED, UNDER_WAY, ADDED, PART]
FAILED = ended("failed", error={"code": "server_error", "message": "The model failed."})


def opened(*pieces, headers=None, scrub=str):
    return ResponsesStream(Scripted(*pieces, headers=headers), now=NOW, scrub=scrub)


async def failure(*pieces, **options):
    """The error of a stream that fails before its first content."""
    _, after, error = await heard(opened(*pieces, **options))
    assert (after, error is None) == (b"", False)
    return error


async def failure_after(*pieces):
    """The error of a stream that says "Hel" first; what came with it was told."""
    before, after, error = await heard(opened(*BEGIN, HEL, *pieces))
    assert (before, after) == (b"".join([*BEGIN, HEL]), b"")
    return error


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_untouched(size):
    """A stream goes through as it came, however it was cut, and is complete with its last event."""
    whole = b"".join([*BEGIN, HEL, LO, SAID, COMPLETED])
    stream = opened(*(whole[start : start + size] for start in range(0, len(whole), size)))
    before, after, error = await heard(stream)
    assert (before, after, error) == (b"".join([*BEGIN, HEL]), b"".join([LO, SAID, COMPLETED]), None)
    assert stream.usage == Usage(12, 9, cached_tokens=4, cache_write_tokens=1, reasoning_tokens=5)
    assert stream.finished
    assert stream.ending() is None


@pytest.mark.parametrize(
    "said",
    [
        HEL,
        told("response.refusal.delta", delta="No"),
        told("response.reasoning_text.delta", delta="Well"),
        told("response.reasoning_summary_text.delta", delta="Well"),
        told("response.function_call_arguments.delta", delta="{"),
        told("response.custom_tool_call_input.delta", delta="x"),
        item("function_call", name="f", arguments=""),
        item("custom_tool_call", name="c"),
        item("web_search_call", status="in_progress"),
    ],
    ids=lambda said: said[:60].decode(),
)
async def test_content(said):
    """Text, refusals, thoughts and calls of tools are content, those of the vendor's own tools among them."""
    before, after, error = await heard(opened(CREATED, said, LO, COMPLETED))
    assert (before, after, error) == (CREATED + said, LO + COMPLETED, None)


@pytest.mark.parametrize(
    "said",
    [
        UNDER_WAY,
        ADDED,
        PART,
        item("reasoning", summary=[]),
        told("response.queued", response=response("queued")),
        told("response.output_text.delta", delta=""),
        told("response.something_new", delta="x"),
        b": keepalive\n\n",
    ],
    ids=lambda said: said[:60].decode(),
)
async def test_no_content(said):
    """What only announces is no content: a failure after it is still nobody's business."""
    stream = opened(CREATED, said, FAILED)
    with pytest.raises(ClientError, match="The model failed"):
        while (block := await stream.read()) is not None:
            assert not block.content


@pytest.mark.parametrize(
    ("last", "usage"),
    [
        (ended("incomplete", incomplete_details={"reason": "max_output_tokens"}), None),
        (ended("incomplete", incomplete_details={"reason": "content_filter"}, usage=USAGE), Usage(12, 9, 4, 1, 5)),
        (ended(output=[{"type": "reasoning", "summary": []}]), None),
    ],
)
async def test_complete_without_content(last, usage):
    """An answer that says why it has no text, or has something else, is an answer."""
    stream = opened(CREATED, last)
    assert await heard(stream) == (CREATED + last, b"", None)
    assert stream.usage == usage


@pytest.mark.parametrize("last", [ended(), ended(output=[{**WHOLE, "content": []}]), told("response.completed")])
async def test_empty(last):
    """A complete answer with nothing in it is a failure."""
    assert (await failure(CREATED, last)).code == "empty_response"


@pytest.mark.parametrize("rest", [(DONE,), (LO,), ("hang",), (CUT,)])
async def test_end(rest):
    """The last event ends the stream; what some servers send after it, or do, is not of it."""
    whole = [*BEGIN, HEL, COMPLETED]
    for pieces in ([*whole, *rest], [*whole[:-1], COMPLETED + b"".join(each for each in rest if each in (DONE, LO))]):
        before, after, error = await heard(opened(*pieces))
        assert (before + after, error) == (b"".join(whole), None)


async def test_end__without_blank_line():
    """The last event is whole also where the server leaves right after it."""
    *_, error = await heard(opened(*BEGIN, HEL, COMPLETED[:-2]))
    assert error is None


async def test_end__without_names():
    """Some servers send no names of events beside their data."""
    bare = [piece.partition(b"\n")[2] for piece in [*BEGIN, HEL, COMPLETED]]
    before, after, error = await heard(opened(*bare, "hang"))
    assert (before + after, error) == (b"".join(bare), None)


async def test_words_of_the_dialect_in_a_text():
    """A model may speak of `response.completed` and of errors."""
    said = told("response.output_text.delta", delta='An event "response.completed" or "response.failed", "error": {}')
    _, after, error = await heard(opened(*BEGIN, HEL, said, COMPLETED))
    assert (after, error) == (said + COMPLETED, None)


@pytest.mark.parametrize("cut", [(), (CUT,), (COMPLETED[:-20],), (LO[:-2],)])
async def test_break(cut):
    """A stream without its last event broke, before its content and after it."""
    for error in (await failure(CREATED, *cut), (await heard(opened(*BEGIN, HEL, *cut)))[2]):
        assert (error.code, error.status, error.retryable, error.work) == ("stream_read_error", 200, True, "billed")


ERRORS = {
    "error": (told("error", error={"type": "server_error", "code": None, "message": "It broke."}), "server_error"),
    "flat": (told("error", code="rate_limit_exceeded", message="Slow down.", param=None), "rate_limit"),
    "flat, unnamed": (event({"type": "error", "code": "server_error", "message": "It broke."}), "server_error"),
    "flat, of no kind": (told("error", code=None, message="It broke.", param=None), "invalid_response"),
    "no object": (b"event: error\ndata: it broke\n\n", "invalid_response"),
    "failed": (FAILED, "server_error"),
    "failed, too many": (ended("failed", error={"code": "rate_limit_exceeded", "message": "Slow."}), "rate_limit"),
    "failed, no money": (ended("failed", error={"code": "insufficient_quota", "message": "x"}), "insufficient_balance"),
    "failed, filtered": (ended("failed", error={"code": "bio_policy", "message": "x"}), "content_filter"),
    "failed, image": (ended("failed", error={"code": "image_too_large", "message": "x"}), "bad_request"),
    "failed, prompt": (ended("failed", error={"code": "invalid_prompt", "message": "x"}), "bad_request"),
    "failed, slow": (ended("failed", error={"code": "vector_store_timeout", "message": "x"}), "timeout"),
    "failed, unexplained": (ended("failed"), "invalid_response"),
    "chat's": (event({"error": {"message": "Overloaded", "code": 529}}), "overloaded"),
    "malformed": (b"event: response.completed\ndata: {oh\n\n", "invalid_response"),
}


@pytest.mark.parametrize(("failed", "code"), ERRORS.values(), ids=ERRORS)
async def test_error(failed, code):
    """An error that is told is a failure with its own code, and what comes after it is of no interest."""
    assert (await failure(CREATED, failed, HEL, COMPLETED)).code == code
    assert (await failure_after(failed, LO, COMPLETED)).code == code
    assert (await failure_after(failed + LO + COMPLETED)).code == code


async def test_error__fields():
    """The vendor's words come through, without secrets; the hint and the id from the head."""
    failed = ended("failed", error={"code": "rate_limit_exceeded", "message": f"Limit reached for {KEY}"})
    headers = {"x-request-id": "req_1", "retry-after": "7"}
    error = await failure(CREATED, failed, headers=headers, scrub=lambda text: text.replace(KEY, "***"))
    assert (error.code, error.message, error.hint) == ("rate_limit", "Limit reached for ***", 7.0)
    assert (error.scope, error.request_id, error.status) == ("credential_model", "req_1", 200)


@pytest.mark.parametrize("name", ["flat", "flat, unnamed", "error", "failed, too many"])
async def test_error__message(name):
    """What the vendor says of it is told, wherever it stands."""
    assert (await failure(CREATED, ERRORS[name][0])).message in ("It broke.", "Slow down.", "Slow.")


async def test_silence():
    """No more than a bounded amount is held back before the first content."""
    noise = told("response.something_new", padding="x" * 65_536)
    error = await failure(CREATED, *[noise] * (MAX_SILENT_BYTES // 65_536 + 1), HEL)
    assert error.code == "invalid_response"


# -- the call


ASKED = Request("gpt-5.4", {"model": "chat", "input": "Hello!"}, endpoint="responses", count_tokens=True)
STREAM_HEADERS = {"content-type": "text/event-stream"}


async def test_call(provider, client):
    """A streamed call goes out as it came, but for the model, the stream and the key; tokens are counted unasked."""
    route = provider.post("/responses").respond(200, content=b"".join([*BEGIN, HEL, COMPLETED]), headers=STREAM_HEADERS)
    async with client.stream(ASKED) as stream:
        before, after, error = await heard(stream)
    assert (before + after, error) == (b"".join([*BEGIN, HEL, COMPLETED]), None)
    sent = route.calls.last.request
    assert orjson.loads(sent.content) == {"model": "gpt-5.4", "input": "Hello!", "stream": True}
    assert (sent.headers["authorization"], sent.headers["accept"]) == (f"Bearer {KEY}", "text/event-stream")
    assert KEY not in repr(client)


async def test_call__failed(provider, client):
    """A status that is an error is one, as in a plain call; the key is in no error."""
    content = {"error": {"message": f"Wrong key {KEY}", "type": "invalid_request_error", "code": "invalid_api_key"}}
    provider.post("/responses").respond(401, json=content)
    with pytest.raises(ClientError) as caught:
        async with client.stream(ASKED):
            raise AssertionError("there is a stream")
    assert (caught.value.code, caught.value.status) == ("invalid_api_key", 401)
    assert KEY not in str(caught.value)


async def test_call__whole_answer(provider, client):
    """A whole answer is no stream; one that failed says why."""
    for body, code in [
        (response("completed", output=[WHOLE]), "invalid_response"),
        (response("failed", error={"code": "server_error", "message": "x"}), "server_error"),
    ]:
        provider.post("/responses").respond(200, json=body)
        with pytest.raises(ClientError) as caught:
            async with client.stream(ASKED):
                raise AssertionError("there is a stream")
        assert caught.value.code == code


# -- what is left out


def asked(*drop, **body):
    return Request("gpt-5.4", {"model": "chat", "input": "Hello!", **body}, endpoint="responses", drop=drop)


@pytest.fixture
def sent(provider, client):
    """Sends a request; what the provider was sent, and what is told to have been left out."""

    async def send(request):
        route = provider.post("/responses").respond(200, json=response("completed", output=[WHOLE]))
        answer = await client.send(request)
        return orjson.loads(route.calls.last.request.content), answer.dropped

    return send


@pytest.mark.parametrize(
    ("drop", "body", "left"),
    [
        ("max_tokens", {"max_output_tokens": 9}, {}),
        ("temperature", {"temperature": 0.5}, {}),
        ("verbosity", {"text": {"verbosity": "low"}}, {}),
        (
            "verbosity",
            {"text": {"verbosity": "low", "format": {"type": "text"}}},
            {"text": {"format": {"type": "text"}}},
        ),
        ("json_object", {"text": {"format": {"type": "json_object"}}}, {}),
        ("json_schema", {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}, {}),
        ("reasoning", {"reasoning": {"effort": "low"}}, {}),
        ("user", {"safety_identifier": "u"}, {}),
        ("tools", {"tools": [], "tool_choice": "auto"}, {}),
        ("truncation", {"truncation": "auto"}, {}),
        ("logprobs", {"top_logprobs": 1, "include": ["message.output_text.logprobs", "x"]}, {"include": ["x"]}),
        ("logprobs", {"include": ["message.output_text.logprobs"]}, {"include": []}),
    ],
    ids=str,
)
async def test_drop(sent, drop, body, left):
    """What may be left out is, and told by its name."""
    content, dropped = await sent(asked(drop, **body))
    assert (content, dropped) == ({"model": "gpt-5.4", "input": "Hello!", **left}, (drop,))


async def test_drop__of_another_kind(sent):
    """A form of the answer goes only by its own name."""
    text = {"format": {"type": "json_schema", "name": "n", "schema": {}}}
    content, dropped = await sent(asked("json_object", "top_k", text=text))
    assert (content["text"], dropped) == (text, ())


async def test_drop__stream(provider, client):
    """A stream tells of it as well."""
    provider.post("/responses").respond(200, content=b"".join([*BEGIN, HEL, COMPLETED]), headers=STREAM_HEADERS)
    async with client.stream(asked("temperature", temperature=1)) as stream:
        assert stream.dropped == ("temperature",)


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "thinking.anthropic:c2ln"}
SIGNED = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
SIGNATURE = {"extra_content": {"google": {"thought_signature": "c2ln"}}}


@pytest.mark.parametrize(("item", "left"), [(THOUGHT, []), ({**SIGNED, **SIGNATURE}, [SIGNED])])
async def test_thoughts_of_others(sent, item, left):
    """What another vendor thought is left out of a conversation that goes on here, where that may be."""
    content, dropped = await sent(asked("thinking", input=[item, {"role": "user", "content": "Hello!"}]))
    assert (content["input"], dropped) == ([*left, {"role": "user", "content": "Hello!"}], ("thinking",))
    with pytest.raises(ClientError) as caught:
        await sent(asked(input=[item]))
    assert (caught.value.code, caught.value.vendor) == ("unsupported_parameter", {"param": "thinking"})


async def test_thoughts_of_its_own(sent):
    """What it thought itself goes back to it, untouched."""
    own = [{**THOUGHT, "encrypted_content": "gAAAA"}, {**THOUGHT, "encrypted_content": None}, SIGNED]
    content, dropped = await sent(asked("thinking", input=own))
    assert (content["input"], dropped) == (own, ())


async def test_bad_body(client):
    """Nothing is sent that is no JSON object."""
    for body in (b"[]", b"{"):
        with pytest.raises(ClientError) as caught:
            await client.send(Request("m", body, endpoint="responses"))
        assert caught.value.code == "bad_request"


# -- servers that do not have it


@pytest.mark.parametrize("stream", [False, True])
async def test_translated(provider, stream):
    """A server that has chat completions alone is asked for those."""
    client = OpenAIClient(
        base_url="https://provider.test/v1", http=httpx.MockTransport(provider.async_handler), server=MISTRAL
    )
    whole = {"id": "1", "model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    pieces = (
        event({"id": "1", "model": "m", "choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}) + DONE
    )
    route = provider.post("/chat/completions")
    route.respond(200, content=pieces, headers=STREAM_HEADERS) if stream else route.respond(200, json=whole)
    request = asked(max_output_tokens=9)
    if stream:
        async with client.stream(request) as streamed:
            before, after, error = await heard(streamed)
        assert (b'"delta":"Hello"' in before, after.count(b"event: response.completed"), error) == (True, 1, None)
    else:
        assert (await client.send(request)).data["output"][0]["content"][0]["text"] == "Hello"
    told = orjson.loads(route.calls.last.request.content)
    assert (told["messages"], told["max_tokens"]) == ([{"role": "user", "content": "Hello!"}], 9)
