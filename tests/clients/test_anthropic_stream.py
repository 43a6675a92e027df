"""A stream of Messages that is passed on: its content, its count of tokens, its end, and how it fails."""

from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.clients import Usage
from standby.clients._breaks import MAX_SILENT_BYTES
from tests.clients.anthropic_streams import (
    BLOCK,
    BLOCK_STOP,
    ERROR,
    HEL,
    LO,
    PING,
    START,
    STOP,
    WHOLE,
    WHY,
    client_of,
    opened,
    provider,
    request,
)
from tests.clients.conversations import few
from tests.clients.openai_streams import CUT, heard
from tests.vendors.anthropic import sent

pytestmark = pytest.mark.anyio

TOOL = sent("content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}})
JSON = sent("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"a":'})
THOUGHT = sent("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm."})
SIGNATURE = sent("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"})
THINKING = sent("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
REDACTED = sent("content_block_start", index=0, content_block={"type": "redacted_thinking", "data": "c2ln"})
SEARCH = sent(
    "content_block_start", index=0, content_block={"type": "server_tool_use", "id": "s", "name": "web_search"}
)


async def test_a_whole_stream():
    """It is passed on as it came, and committed to at its first words."""
    stream = opened(*WHOLE)
    assert await heard(stream) == (START + PING + BLOCK + HEL, LO + BLOCK_STOP + WHY + STOP, None)
    assert stream.usage == Usage(
        input_tokens=18, output_tokens=7, cached_tokens=5, cache_write_tokens=3, reasoning_tokens=2
    )


@few
@given(st.lists(st.integers(1, sum(map(len, WHOLE))), max_size=6))
def test_it_may_be_cut_anyhow(cuts):
    """Whatever a read brings."""
    whole = b"".join(WHOLE)
    places = [0, *sorted(cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(places) if start < end]
    stream = opened(*pieces)
    before, after, error = anyio.run(heard, stream)
    assert (before + after, error) == (whole, None)
    assert stream.usage is not None
    assert stream.usage.output_tokens == 7


@pytest.mark.parametrize(
    "said",
    [
        (THINKING, THOUGHT),
        (TOOL,),
        (REDACTED,),
        (SEARCH,),
        (sent("content_block_start", index=0, content_block={"type": "text", "text": "Hi"}),),
    ],
    ids=["thought", "tool", "redacted", "server tool", "text at once"],
)
async def test_what_content_is(said):
    """Words, thoughts, calls; a `ping`, the beginning of a block and a signature are none."""
    assert (await heard(opened(START, PING, *said, WHY, STOP)))[0] == START + PING + b"".join(said)


async def test_a_signature_is_no_content():
    """Thoughts may be hidden, and their signature comes all the same; the words come after it."""
    before, after, error = await heard(opened(START, THINKING, SIGNATURE, BLOCK, HEL, WHY, STOP))
    assert (before, after, error) == (START + THINKING + SIGNATURE + BLOCK + HEL, WHY + STOP, None)


async def test_arguments_of_a_call_are_passed_on():
    """After the commit nothing is taken apart."""
    assert await heard(opened(START + TOOL, JSON, WHY + STOP)) == (START + TOOL, JSON + WHY + STOP, None)


@pytest.mark.parametrize(
    "text", ["message_stop", '"message_stop"', 'event: error\\ndata: {"error": 1}', '"message_delta"']
)
async def test_words_that_look_like_events_are_words(text):
    """Inside of a text they tell nothing."""
    words = sent("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    assert await heard(opened(START, HEL, words, WHY, STOP)) == (START + HEL, words + WHY + STOP, None)


# -- the end -----------------------------------------------------------------------------------------------------


async def test_what_comes_after_the_end_is_not_of_it():
    """The stream is over when it says so."""
    assert await heard(opened(START, HEL, WHY + STOP + LO)) == (START + HEL, WHY + STOP, None)
    assert await heard(opened(START, WHY.replace(b"end_turn", b"refusal"), STOP + LO)) == (
        START + WHY.replace(b"end_turn", b"refusal") + STOP,
        b"",
        None,
    )


@pytest.mark.parametrize("rest", [b"", CUT])
async def test_an_answer_that_says_why_it_ended_is_whole(rest):
    """Though its last event does not come: we say it instead, and so does the runner where it waits for it in vain."""
    stream = opened(START, HEL, WHY, rest)
    ours = STOP.replace(b'": "', b'":"')
    assert await heard(stream) == (START + HEL, WHY + ours, None)
    assert (stream.finished, stream.ending().raw) == (True, ours)


@pytest.mark.parametrize("rest", [b"", CUT, HEL[:-3]])
async def test_a_stream_that_does_not_say_why_it_ended_broke(rest):
    """What has come is no answer, however much like one it looks."""
    before, after, error = await heard(opened(START, HEL, LO + BLOCK_STOP, rest))
    assert (before, after) == (START + HEL, LO + BLOCK_STOP)
    assert (error.code, error.status, error.retryable, error.work) == ("stream_read_error", 200, True, "billed")


async def test_a_stream_that_breaks_before_its_first_words():
    """Somebody else is asked."""
    assert (await heard(opened(START, PING, CUT)))[2].code == "stream_read_error"


async def test_an_empty_stream_is_a_failure():
    """It ended, and nobody knows what for."""
    assert (await heard(opened(START, BLOCK, BLOCK_STOP, WHY, STOP)))[2].code == "empty_response"


@pytest.mark.parametrize("reason", [b"refusal", b"pause_turn"])
async def test_silence_may_be_explained(reason):
    """The model declines, or goes on later."""
    why = WHY.replace(b"end_turn", reason)
    assert await heard(opened(START, why, STOP)) == (START + why + STOP, b"", None)


async def test_pings_do_not_go_on_for_ever():
    """What is held back is bounded."""
    many = sent("ping", padding="." * 10_000) * (MAX_SILENT_BYTES // 10_000 + 1)
    assert (await heard(opened(START, many, HEL)))[2].code == "invalid_response"


# -- failures ----------------------------------------------------------------------------------------------------

ERRORS = {
    "overloaded": (ERROR, "overloaded", "provider"),
    "api": (
        sent("error", error={"type": "api_error", "message": "Internal server error"}),
        "server_error",
        "candidate",
    ),
    "rate": (sent("error", error={"type": "rate_limit_error", "message": "x"}), "rate_limit", "credential_model"),
    "timeout": (sent("error", error={"type": "timeout_error", "message": "x"}), "timeout", "candidate"),
    "filter": (
        sent(
            "error",
            error={
                "details": None,
                "type": "invalid_request_error",
                "message": "Output blocked by content filtering policy",
            },
        ),
        "content_filter",
        "request",
    ),
    "bare": (b'event: error\ndata: {"message": "x", "type": "overloaded_error"}\n\n', "overloaded", "provider"),
    "text": (b"event:error\ndata: it broke\n\n", "invalid_response", "candidate"),
    "no name": (b'data: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n', "server_error", "candidate"),
}


@pytest.mark.parametrize(("told", "code", "scope"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("first", [b"", HEL], ids=["before", "after"])
async def test_an_error_inside_of_a_stream(first, told, code, scope):
    """Before the commit and after it; what came before is told, and nothing of what comes after."""
    pieces = [START + first, told + LO, STOP]
    before, after, error = await heard(opened(*pieces, headers={"request-id": "req_1"}))
    assert (before, after) == (START + first, b"")
    assert (error.code, error.status, error.scope, error.request_id) == (code, 200, scope, "req_1")


async def test_an_event_that_is_no_json_is_a_failure():
    """Before the commit every event is looked at."""
    assert (await heard(opened(b"event: message_start\ndata: {\n\n", HEL)))[2].code == "invalid_response"


async def test_a_stream_of_the_client():
    """What a server sends, passed on."""
    router = provider()
    headers = {"content-type": "text/event-stream", "request-id": "req_1"}
    route = router.post("/messages").respond(200, content=b"".join(WHOLE), headers=headers)
    async with client_of(router).stream(request(drop={"max_tokens"})) as stream:
        assert sum(map(len, (await heard(stream))[:2])) == sum(map(len, WHOLE))
        assert (stream.request_id, stream.dropped) == ("req_1", ("max_tokens",))
    asked = route.calls.last.request
    assert (asked.headers["accept"], asked.headers["accept-encoding"]) == ("text/event-stream", "identity")
    assert asked.content.endswith(b',"stream":true}')


async def test_a_count_is_not_streamed():
    """There is one number in it."""
    with pytest.raises(Exception, match="a count is not streamed"):
        async with client_of(provider()).stream(request(endpoint="messages/count_tokens")):
            pass
