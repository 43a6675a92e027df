"""Streams of an OpenAI-compatible server: what is content, what fails and how, and what goes through untouched."""

import json
from itertools import pairwise
from types import SimpleNamespace

import anyio
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standby.clients import Block, ClientError, ProviderStream, Request, StreamingClient, Usage
from standby.clients._openai_stream import MAX_SILENT_BYTES, OpenAIStream
from standby.clients._sse import MAX_EVENT_BYTES
from tests.clients.conftest import KEY, NOW

pytestmark = pytest.mark.anyio

DONE = b"data: [DONE]\n\n"
CUT = ClientError("network", "the connection was cut", status=200, retryable=True)


class Scripted:
    """An answer whose body comes in these pieces; an exception among them is raised, and "hang" is silence."""

    def __init__(self, *pieces, headers=None):
        self.status = 200
        self.headers = headers or {}
        self.pieces = list(pieces)

    async def read_some(self, max_bytes=None):
        piece = self.pieces.pop(0) if self.pieces else b""
        if piece == "hang":
            await anyio.sleep_forever()
        if isinstance(piece, Exception):
            raise piece
        return piece


def event(value):
    return b"data: " + orjson.dumps(value) + b"\n\n"


def delta(finish_reason=None, index=0, **said):
    return event({"choices": [{"index": index, "delta": said, "finish_reason": finish_reason}]})


ROLE = delta(role="assistant", content="")
HEL, LO = delta(content="Hel"), delta(content="lo")
STOP = delta("stop")
COUNT = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
WHOLE = [ROLE, HEL, LO, STOP, DONE]


def opened(*pieces, headers=None, **options):
    told = {"choices": 1, "hide_usage": False, "may_end_without_finish": False, "now": NOW, "scrub": str, **options}
    return OpenAIStream(Scripted(*pieces, headers=headers), **told)


async def heard(stream):
    """What a runner hears of ``stream``, which it commits to at the first content: bytes before and after, and the end.

    The end is `None` for a stream that is complete, else the error.
    """
    before, after = b"", b""
    try:
        while (block := await stream.read()) is not None:
            assert block.raw
            before += block.raw
            if block.content:
                stream.commit()
                break
        while (block := await stream.read()) is not None:
            after += block.raw
    except ClientError as error:
        return before, after, error
    return before, after, None


async def failure(*pieces, **options):
    """The error of a stream that fails before its first content."""
    before, after, error = await heard(opened(*pieces, **options))
    assert (after, error is None) == (b"", False)
    assert HEL not in before
    return error


async def failure_after(*pieces, **options):
    """The error of a stream that says "Hel" first; what came with it was told."""
    before, after, error = await heard(opened(HEL, *pieces, **options))
    assert (before, after) == (HEL, b"")
    assert error is not None
    return error


# -- a stream that is complete


async def test_complete():
    """The events as they came, in order, and that is all."""
    assert await heard(opened(*WHOLE)) == (ROLE + HEL, LO + STOP + DONE, None)


async def test_complete__at_once():
    """It is the same where all of it comes in one piece: the commit is at the first content, and not at a read."""
    assert await heard(opened(b"".join(WHOLE))) == (ROLE + HEL, LO + STOP + DONE, None)


async def test_complete__end():
    """To read beyond the end is no error."""
    stream = opened(*WHOLE)
    await heard(stream)
    assert await stream.read() is None


async def test_before_the_commit_events_come_one_by_one():
    """Where the commit comes later than the first content, too: how many come together is chance."""
    stream = opened(ROLE + HEL + LO + STOP)
    blocks = [await stream.read() for _ in range(4)]
    assert blocks == [Block(ROLE, False), Block(HEL, True), Block(LO, True), Block(STOP, False)]


def test_is_a_stream(client):
    """The protocols are kept."""
    assert isinstance(client, StreamingClient)
    stream: ProviderStream = opened()
    assert stream.usage is None


async def test_request_id():
    """The vendor's own id is known from the head."""
    assert opened(headers={"x-request-id": "req_1"}).request_id == "req_1"


async def test_finished():
    """Whether the answer is complete is known before the stream is over."""
    stream = opened(HEL, STOP, "hang")
    assert (await stream.read(), stream.finished) == (Block(HEL, True), False)
    stream.commit()
    assert (await stream.read(), stream.finished) == (Block(STOP, True), True)


# -- content


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": "x"}},
        {"delta": {"content": " "}},
        {"delta": {"role": "assistant", "content": "x"}},
        {"delta": {"content": [{"type": "thinking", "thinking": "x"}]}},
        {"delta": {"reasoning": "x"}},
        {"delta": {"reasoning_content": "x"}},
        {"delta": {"content": "", "reasoning_details": [{"text": "x"}]}},
        {"delta": {"thinking": "x"}},
        {"delta": {"refusal": "x"}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}},
        {"delta": {"function_call": {"name": "f"}}},
        {"delta": {"audio": {"data": "eA=="}}},
        {"delta": {"images": [{"image_url": {"url": "x"}}]}},
        {"text": "x"},
    ],
)
async def test_content(choice):
    """Text, reasoning, a refusal, a call, sound or a picture."""
    stream = opened(event({"choices": [{"index": 0, "finish_reason": None, **choice}]}))
    assert (await stream.read()).content


@pytest.mark.parametrize(
    "value",
    [
        {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": None, "tool_calls": []}}]},
        {"choices": [{"index": 0, "delta": {}}]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 0, "delta": "x"}]},
        {"choices": [{"index": 0, "text": ""}]},
        {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}},
        {"choices": ["x"]},
        {"choices": None},
        {"type": "ping"},
        {},
    ],
)
async def test_content__none(value):
    """Roles, empty deltas, pings and counts are none; they are told, and the runner holds them back."""
    assert await opened(event(value)).read() == Block(event(value), content=False)


@pytest.mark.parametrize("ping", [b": ping\n\n", b":\n\n", b"event: ping\n\n", b"data:\n\n", b"data: \n\n", b"\n\n"])
async def test_content__ping(ping):
    """What has no data is not told before the first content: nobody needs it, and a server may send it for ever."""
    assert await heard(opened(ping, ROLE + ping, ping, HEL, STOP)) == (ROLE + HEL, STOP, None)


async def test_silence_is_bounded():
    """A server that sends much and says nothing fails: what is held back takes memory."""
    error = await failure(*[ROLE * 1000] * (MAX_SILENT_BYTES // (1000 * len(ROLE)) + 1), HEL)
    assert (error.code, error.retryable) == ("invalid_response", True)
    assert str(MAX_SILENT_BYTES) in error.message


# -- failures that are told


ERRORS = {
    "openai": (event({"error": {"message": "It broke.", "type": "server_error", "code": None}}), "server_error"),
    "overloaded": (event({"error": {"message": "Overloaded", "code": 529}}), "overloaded"),
    "text": (event({"error": "The model is overloaded."}), "overloaded"),
    "named": (b"event: error\n" + event({"message": "It broke.", "type": "server_error"}), "server_error"),
    "named, odd": (b"event:error\n" + event({"error": {"message": "x", "type": "overloaded_error"}}), "overloaded"),
    "named text": (b"event: error\ndata: the model fell over\n\n", "invalid_response"),
    "object": (event({"object": "error", "message": "x", "type": "InternalServerError", "code": 500}), "server_error"),
    "spaced": (b'data: { "error" : {"message": "x", "type": "server_error"} }\n\n', "server_error"),
    "lines": (b'data: {"error":\ndata: {"message": "x", "type": "server_error"}}\n\n', "server_error"),
    "choice": (
        event({"choices": [{"delta": {}, "error": {"code": 502, "message": "The host failed."}}]}),
        "server_error",
    ),
    "both": (
        event({"error": {"code": 502, "message": "x"}, "choices": [{"delta": {"content": ""}}]}),
        "server_error",
    ),
    "finish": (delta("error"), "server_error"),
    "list": (event({"error": [{"message": "x", "type": "server_error"}]}), "invalid_response"),
}


@pytest.mark.parametrize(("told", "code"), ERRORS.values(), ids=ERRORS)
async def test_error_event(told, code):
    """An error inside a success is a failure with its own code, and what comes after it is of no interest."""
    error = await failure(ROLE, told, HEL, STOP, DONE)
    assert (error.code, error.status, error.retryable) == (code, 200, True)


@pytest.mark.parametrize(("told", "code"), ERRORS.values(), ids=ERRORS)
async def test_error_event__after_content(told, code):
    """It is the same after the commit; what came before is told, and the stream does not end as if it were complete."""
    assert (await failure_after(told + DONE)).code == code
    assert (await failure_after(told, LO, STOP, DONE)).code == code


async def test_error_event__in_one_piece():
    """What was said before the error is told also where both came together."""
    told, _ = ERRORS["openai"]
    before, after, error = await heard(opened(ROLE + HEL + LO + told + DONE))
    assert (before, after, error.code) == (ROLE + HEL, LO, "server_error")


async def test_error_event__without_blank_line():
    """An error is an error also where the server leaves right after it."""
    told, _ = ERRORS["openai"]
    assert (await failure(told[:-2])).code == "server_error"
    assert (await failure_after(told[:-1])).code == "server_error"


async def test_error_event__fields():
    """The vendor's words come through, without secrets; the hint and the id from the head."""
    told = event({"error": {"message": f"Limit reached for {KEY}", "type": "requests", "code": "rate_limit_exceeded"}})
    headers = {"x-request-id": "req_1", "retry-after": "7"}
    error = await failure(told, headers=headers, scrub=lambda text: text.replace(KEY, "***"))
    assert (error.code, error.message, error.hint) == ("rate_limit", "Limit reached for ***", 7.0)
    assert (error.scope, error.request_id) == ("credential_model", "req_1")


@pytest.mark.parametrize("told", [b'"error":null', b'"error": null', b'"error":false', b'"error":{}', b'"error":""'])
async def test_error_event__none(told):
    """An error that is empty is none."""
    plain = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],' + told + b"}\n\n"
    assert await heard(opened(plain, plain, STOP)) == (plain, plain + STOP, None)


async def test_error_event__in_a_text():
    """A model may talk about errors and ends."""
    said = delta(content='{"error": {"message": "x"}} "error": "x" [DONE]\nevent: error\ndata: "finish_reason":"stop"')
    assert await heard(opened(HEL, said + said, STOP)) == (HEL, said + said + STOP, None)


# -- failures that show


@pytest.mark.parametrize(
    "data", [b"{", b'{"choices": [}', b"<html>", b"\xff\xfe", b"[]", b'"x"', b"1", b"null", b'{"choices":\ndata: [}']
)
async def test_malformed(data):
    """An event that is no JSON object is no answer."""
    error = await failure(ROLE, b"data: " + data + b"\n\n", HEL, STOP)
    assert (error.code, error.retryable, error.work) == ("invalid_response", True, "billed")


async def test_malformed__after_content():
    """After the commit nobody looks, unless the event seems to tell something."""
    odd = b"data: {half a\n\n"
    assert await heard(opened(HEL, odd, STOP)) == (HEL, odd + STOP, None)
    assert (await failure_after(b'data: {"finish_reason":"stop"\n\n')).code == "invalid_response"


@pytest.mark.parametrize(
    ("below", "code"),
    [
        (CUT, "stream_read_error"),
        (ClientError("timeout", "nothing was read", retryable=True), "stream_read_error"),
        (ClientError("client_closed", "closed", scope="local"), "client_closed"),
        (ClientError("invalid_response", "too large", retryable=True), "invalid_response"),
    ],
)
async def test_cut(below, code):
    """What breaks the connection breaks the stream; what else fails keeps its name."""
    before = await failure(ROLE, below)
    after = await failure_after(below)
    assert (before.code, after.code) == (code, code)


async def test_cut__fields():
    """The stream's own code, with the network's words and cause; the work was done, and paid for."""
    error = await failure_after(CUT, headers={"x-request-id": "req_1"})
    assert (error.status, error.retryable, error.work, error.request_id) == (200, True, "billed", "req_1")
    assert (error.message, error.__cause__) == (CUT.message, CUT)


async def test_cut__on_our_side():
    """Whose fault it is stays known."""
    error = await failure_after(ClientError("network", "no memory", retryable=True, scope="local"))
    assert (error.code, error.scope) == ("stream_read_error", "local")


@pytest.mark.parametrize("ending", [CUT, b"", LO[:-10]])
async def test_cut__again(ending):
    """Who asks a broken stream again is told again."""
    stream = opened(HEL, ending)
    for error in [(await heard(stream))[2], (await heard(stream))[2]]:
        assert error.code == "stream_read_error"


@pytest.mark.parametrize("pieces", [[STOP, CUT], [STOP, DONE, CUT], [STOP + COUNT[:20], CUT]])
async def test_cut__after_the_answer(pieces):
    """How the connection of a complete answer ends is no news."""
    before, after, error = await heard(opened(HEL, *pieces))
    assert (before, error) == (HEL, None)
    assert after.startswith(STOP)


@pytest.mark.parametrize("rest", [[], [LO], [LO[:-1]], [LO[:-2]], [LO[:20]], [b": ping\n\n"]])
async def test_end__unfinished(rest):
    """A stream that ends without a finish reason or [DONE] is broken, however orderly its end."""
    error = (await heard(opened(HEL, *rest)))[2]
    assert (error.code, error.message) == ("stream_read_error", "the stream ended before it was finished")
    assert (await failure(ROLE)).code == "stream_read_error"


async def test_end__cut_event():
    """An event without its blank line was cut, however whole it looks: it is no content to commit to."""
    for size in range(len(HEL)):
        assert (await failure(ROLE, HEL[:size])).code == "stream_read_error"


@pytest.mark.parametrize("ending", [[STOP], [DONE], [STOP, DONE], [STOP, COUNT], [STOP, COUNT, DONE]])
async def test_end__finished(ending):
    """Either is enough."""
    assert await heard(opened(HEL, *ending)) == (HEL, b"".join(ending), None)


@pytest.mark.parametrize("last", [DONE, STOP, delta("length", content="!")])
@pytest.mark.parametrize("missing", [1, 2])
async def test_end__without_blank_line(last, missing):
    """Some servers leave out the blank line after their last event; to the caller it is a whole one."""
    assert await heard(opened(HEL, last[:-missing])) == (HEL, last, None)
    assert await heard(opened(HEL, LO, last[:-missing])) == (HEL, LO + last, None)


async def test_end__cut_after_the_finish():
    """What is cut of what comes after the finish is not passed on."""
    for size in range(len(DONE) - 2):
        assert await heard(opened(HEL, STOP, DONE[:size])) == (HEL, STOP, None)


async def test_end__content_in_the_last_event():
    """It may be the first content, too."""
    last = delta("stop", content="Hello")
    assert await heard(opened(ROLE, last[:-2])) == (ROLE + last, b"", None)


@pytest.mark.parametrize(("rest", "code"), [(b"", None), (LO[:-2], None), (LO[:-9], "stream_read_error")])
async def test_end__may_be_unfinished(rest, code):
    """Where a server sends neither, its streams may simply end; but not within an event."""
    _, after, error = await heard(opened(HEL, rest, may_end_without_finish=True))
    assert (error and error.code, after) == (code, LO if rest and not code else b"")


async def test_end__beyond():
    """What comes after [DONE] is not of this stream."""
    assert await heard(opened(HEL, DONE + LO, LO)) == (HEL, DONE, None)
    assert await heard(opened(HEL + DONE + LO)) == (HEL, DONE, None)


@pytest.mark.parametrize("written", [b"data:[DONE]\n\n", b"data: [DONE] \n\n", b": bye\ndata: [DONE]\n\n"])
async def test_end__done_in_other_forms(written):
    """The caller is told in OpenAI's."""
    assert await heard(opened(HEL, written)) == (HEL, DONE, None)


async def test_end__keeps_the_connection():
    """The end of the answer is read after the end of the stream, so that the connection can be used again."""
    answer = Scripted(HEL, DONE, b"", CUT)
    stream = OpenAIStream(answer, choices=1, hide_usage=False, may_end_without_finish=False, now=NOW, scrub=str)
    assert (await heard(stream))[2] is None
    assert answer.pieces == [CUT]


async def test_end__that_does_not_come():
    """It is not waited for long."""
    with anyio.fail_after(5):
        assert (await heard(opened(HEL, DONE, "hang")))[2] is None


# -- finishing


async def test_empty():
    """A finished stream without content is no answer."""
    for pieces in ([ROLE, STOP, DONE], [DONE], [STOP], [ROLE, STOP, COUNT]):
        error = await failure(*pieces)
        assert (error.code, error.retryable, error.work) == ("empty_response", True, "billed")


async def test_empty__filtered():
    """One whose content was filtered is an answer."""
    pieces = ROLE, delta("content_filter"), DONE
    assert await heard(opened(*pieces)) == (b"".join(pieces), b"", None)


async def test_empty__thought_to_the_end():
    """So is one whose tokens all went into hidden thoughts."""
    details = {"completion_tokens_details": {"reasoning_tokens": 9}}
    count = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 9, **details}})
    assert (await heard(opened(ROLE, delta("length"), count, DONE)))[2] is None
    assert (await failure(ROLE, delta("length"), COUNT, DONE)).code == "empty_response"


async def test_empty__committed_blindly():
    """Who commits before there is content has taken what comes."""
    stream = opened(ROLE, STOP)
    stream.commit()
    assert await heard(stream) == (ROLE, STOP, None)


async def test_finish__empty():
    """Some servers write an empty finish reason as long as there is none."""
    unfinished = delta("", content="x")
    assert (await heard(opened(unfinished, unfinished)))[2].code == "stream_read_error"
    assert (await heard(opened(unfinished, unfinished, STOP)))[2] is None


@pytest.mark.parametrize("index", [None, [], {}, "0", 1.5])
async def test_finish__odd_index(index):
    """An index that is none is the first."""
    choice = {"index": index, "delta": {"content": "x"}, "finish_reason": "stop"}
    assert (await heard(opened(event({"choices": [choice]}))))[2] is None


async def test_choices():
    """Each choice that was asked for must finish."""
    first, second = delta("stop", content="a"), delta("stop", index=1, content="b")
    assert (await heard(opened(first, choices=2)))[2].code == "stream_read_error"
    assert (await heard(opened(first, delta("length"), choices=2)))[2].code == "stream_read_error"
    assert (await heard(opened(HEL, first + second, choices=2)))[2] is None
    assert (
        await heard(opened(event({"choices": [{"index": n, "text": "x", "finish_reason": "stop"} for n in (0, 1)]})))
    )[2] is None
    assert (await heard(opened(first, DONE, choices=2)))[2] is None


# -- tokens


@pytest.mark.parametrize("after_content", [False, True])
async def test_usage(after_content):
    """Tokens are known as soon as they are told, and the caller is told as well."""
    stream = opened(*([HEL] if after_content else []), STOP, COUNT, DONE)
    before, after, _ = await heard(stream)
    assert stream.usage == Usage(3, 4)
    assert COUNT in before + after


async def test_usage__hidden():
    """Where only we asked, the event that only counts is not for the caller; nothing else is changed."""
    odd = b": note\nid: 7\ndata:" + HEL[5:]
    for pieces in (
        [HEL, odd, STOP, COUNT, DONE],
        [HEL, odd + STOP + COUNT + DONE],
        [b"".join([HEL, odd, STOP, COUNT, DONE])],
    ):
        stream = opened(*pieces, hide_usage=True)
        assert await heard(stream) == (HEL, odd + STOP + DONE, None)
        assert stream.usage == Usage(3, 4)


async def test_usage__hidden_before_content():
    """It is so before the first content, and for one without its blank line."""
    assert await heard(opened(ROLE, COUNT, HEL, STOP, hide_usage=True)) == (ROLE + HEL, STOP, None)
    assert await heard(opened(HEL, STOP, COUNT[:-2], hide_usage=True)) == (HEL, STOP, None)


async def test_usage__beside_a_choice():
    """Some servers count in an event that says more: that is for the caller."""
    last = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}})
    stream = opened(HEL, last, hide_usage=True)
    assert await heard(stream) == (HEL, last, None)
    assert stream.usage == Usage(3, 0)


async def test_usage__of_a_broken_stream():
    """What was counted before the break is known."""
    stream = opened(HEL, COUNT, CUT)
    await heard(stream)
    assert stream.usage == Usage(3, 4)


# -- untouched


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded as JSON."""
    seen = []

    def loads(data):
        seen.append(bytes(data))
        return orjson.loads(data)

    fake = SimpleNamespace(loads=loads, JSONDecodeError=orjson.JSONDecodeError)
    monkeypatch.setattr("standby.clients._openai_stream.orjson", fake)
    return seen


async def test_untouched(decoded):
    """After the commit bytes go through as they came; only the events that tell something are decoded."""
    quiet = [
        b": a comment\n\n",
        b'data:   { "choices" : [ { "delta" : { "content" : "\\u00e9 \xc3\xa9" } } ] , "usage":null }\n\n',
        b"id: 1\nretry: 5\ndata: {}\n\n",
        b"\n\n\n",
        b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": null}], "error": null}\n\n',
    ]
    loud = [COUNT, b'data: {"choices":[{"index":0,"delta":{},"finish_reason"  :\t"stop"}]}\n\n']
    after = quiet[0] + quiet[1] + loud[0] + b"".join(quiet[2:]) + loud[1] + quiet[0] + DONE
    stream = opened(HEL, after)
    assert await heard(stream) == (HEL, after, None)
    assert decoded == [HEL[6:-2], *(each.strip(b"\n")[6:] for each in loud)]
    assert (stream.usage, stream.finished) == (Usage(3, 4), True)


async def test_untouched__thousands(decoded):
    """However many come at once."""
    assert (await heard(opened(HEL, LO * 5000 + STOP + LO * 5000, DONE)))[1:] == (
        LO * 5000 + STOP + LO * 5000 + DONE,
        None,
    )
    assert decoded == [HEL[6:-2], STOP[6:-2]]


@pytest.mark.parametrize("space", ["", " ", "  ", "\t", " \t", "\t ", "\n", " \n", "\r"])
@pytest.mark.parametrize("key", ["before the colon", "after the colon"])
async def test_untouched__found(space, key):
    """What must be known is found however JSON's white space lies around the colon."""
    colon = f"{space}:" if key == "before the colon" else f":{space}"
    last = '{"choices": [{"index": 0, "finish_reason":"stop"}], "usage":{"prompt_tokens": 5}}'
    last = last.replace('n":"', f'n"{colon}"').replace('e":{', f'e"{colon}{{')
    written = "".join(f"data: {line}\n" for line in last.replace("\r", "\n").split("\n")) + "\n"
    stream = opened(HEL, written.encode())
    assert await heard(stream) == (HEL, written.encode(), None)
    assert stream.usage == Usage(5, 0)


async def test_huge_event():
    """An event beyond the bound is refused, before the commit and after it; what came before it is told."""
    huge = b"data: " + b"x" * MAX_EVENT_BYTES
    parts = [huge[start : start + 1_000_000] for start in range(0, len(huge), 1_000_000)]
    assert (await failure(ROLE, *parts, HEL)).code == "invalid_response"
    assert (await failure_after(*parts, b"\n\n", STOP, DONE)).code == "invalid_response"
    for pieces in ([HEL + LO + huge], [HEL + LO + huge + b"\n\n" + STOP]):
        before, after, error = await heard(opened(*pieces))
        assert (before, after, error.code) == (HEL, LO, "invalid_response")


async def test_large_event():
    """One within it is not, and costs what its bytes cost, however small the pieces."""
    large = delta(content="x" * 300_000)
    pieces = [large[start : start + 10] for start in range(0, len(large), 10)]
    assert await heard(opened(HEL, *pieces, STOP)) == (HEL, large + STOP, None)


# -- any cut


REFERENCE = [
    b": connected\n\n",
    ROLE,
    b"event: ping\ndata: {}\n\n",
    delta(reasoning_content="hm \u20ac"),
    b"id: 1\n" + delta(content="Gr\u00fc\u00dfe \U0001f600"),
    b": ping\n\n",
    b'data: {"choices":\ndata: [{"index": 1, "delta": {"content": "x"}}]}\n\n',
    delta("stop"),
    delta("length", index=1),
    COUNT,
    DONE,
]
ENDINGS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = {
    "complete": REFERENCE,
    "unfinished": REFERENCE[:-4],
    "half finished": REFERENCE[:-3],
    "failed": [*REFERENCE[:-4], ERRORS["choice"][0], DONE],
    "failed early": [*REFERENCE[:3], ERRORS["named"][0], *REFERENCE[3:]],
    "malformed": [*REFERENCE[:3], b"data: {\n\n", *REFERENCE[3:]],
    "without blank line": [*REFERENCE[:-1], DONE[:-2]],
}


async def facts(pieces, hide_usage):
    stream = opened(*pieces, choices=2, hide_usage=hide_usage)
    before, after, error = await heard(stream)
    return before, after, error and (error.code, error.message), stream.usage, stream.finished


@settings(deadline=None)
@given(
    st.sampled_from(list(STREAMS)), st.lists(st.integers(0, 1500), max_size=12), ENDINGS, st.booleans(), st.booleans()
)
def test_any_chunking(name, cuts, ending, mark, hide_usage):
    """However the bytes are cut, whatever ends the lines, and with a byte order mark: the same events and facts."""
    events = STREAMS[name]
    wire = (b"\xef\xbb\xbf" if mark else b"") + b"".join(events).replace(b"\n", ending)
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    cut = [wire[start:end] for start, end in pairwise(places)]
    assert anyio.run(facts, cut, hide_usage) == anyio.run(facts, events, hide_usage)


@pytest.mark.parametrize("name", STREAMS)
async def test_any_chunking__byte_by_byte(name):
    """In single bytes, too."""
    wire = b"".join(STREAMS[name])
    cut = [wire[place : place + 1] for place in range(len(wire))]
    assert await facts(cut, False) == await facts(STREAMS[name], False)


# -- the call


STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8"}


def request(body=None, **fields):
    return Request("gpt-4o", {"model": "chat", "messages": []} if body is None else body, **fields)


async def streamed(client, asked):
    """A whole streamed call, as `heard` tells it."""
    async with client.stream(asked) as stream:
        return await heard(stream)


async def test_call(provider, client):
    """The events of a stream that a server sends, and nothing kept from it."""
    route = provider.post("/chat/completions").respond(200, content=b"".join(WHOLE), headers=STREAM_HEADERS)
    assert await streamed(client, request()) == (ROLE + HEL, LO + STOP + DONE, None)
    sent = route.calls.last.request
    assert (sent.headers["accept"], sent.headers["accept-encoding"]) == ("text/event-stream", "identity")
    assert sent.headers["authorization"] == f"Bearer {KEY}"


async def test_call__completions(provider, client):
    """Completions stream, too."""
    text = event({"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]})
    provider.post("/completions").respond(200, content=text, headers=STREAM_HEADERS)
    assert await streamed(client, request(endpoint="completions")) == (text, b"", None)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"chat", "n": 1.50}', b'{"model":"gpt-4o", "n": 1.50,"stream":true}'),
        (b'{"model":"chat","stream":true}', b'{"model":"gpt-4o","stream":true}'),
        (b'{"model":"chat","stream":false}', b'{"model":"gpt-4o","stream":true}'),
        (b'{"model":"chat","stream":null}', b'{"model":"gpt-4o","stream":true}'),
        (b"{}", b'{"model":"gpt-4o","stream":true}'),
    ],
)
async def test_call__body(provider, client, body, sent):
    """A stream is asked for, and every other byte is sent as it was given."""
    route = provider.post("/chat/completions").respond(200, content=b"".join(WHOLE), headers=STREAM_HEADERS)
    await streamed(client, request(body))
    assert route.calls.last.request.content == sent


@pytest.mark.parametrize(
    ("options", "sent", "hidden"),
    [
        ({}, {"include_usage": True}, True),
        ({"stream_options": None}, {"include_usage": True}, True),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}, True),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
            True,
        ),
        ({"stream_options": {"include_usage": True}}, {"include_usage": True}, False),
        ({"stream_options": {"include_usage": True, "x": 1}}, {"include_usage": True, "x": 1}, False),
    ],
)
async def test_call__count_tokens(provider, client, options, sent, hidden):
    """Tokens are asked for where they must be counted, beside what the caller asks; only who asked is told."""
    route = provider.post("/chat/completions").respond(
        200, content=b"".join([HEL, STOP, COUNT, DONE]), headers=STREAM_HEADERS
    )
    asked = request({"model": "chat", "messages": [], "stream": True, **options}, count_tokens=True)
    async with client.stream(asked) as stream:
        _, after, _ = await heard(stream)
    assert json.loads(route.calls.last.request.content)["stream_options"] == sent
    assert (COUNT in after, stream.usage) == (not hidden, Usage(3, 4))


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_call__count_tokens_not(provider, client, options):
    """Where they need not be, nothing is added and nothing hidden."""
    route = provider.post("/chat/completions").respond(
        200, content=b"".join([HEL, STOP, COUNT, DONE]), headers=STREAM_HEADERS
    )
    _, after, _ = await streamed(client, request({"messages": [], **options}))
    assert json.loads(route.calls.last.request.content).get("stream_options") == options.get("stream_options")
    assert COUNT in after


@pytest.mark.parametrize(
    ("body", "endpoint", "choices"),
    [
        ({}, "chat/completions", 1),
        ({"n": 3}, "chat/completions", 3),
        ({"n": None}, "chat/completions", 1),
        ({"n": "3"}, "chat/completions", 1),
        ({"prompt": "a"}, "completions", 1),
        ({"prompt": ["a", "b"], "n": 2}, "completions", 4),
        ({"prompt": [1, 2, 3]}, "completions", 1),
        ({"prompt": [[1, 2], [3]]}, "completions", 2),
        ({"prompt": []}, "completions", 1),
    ],
)
async def test_call__choices(provider, client, body, endpoint, choices):
    """As many choices must finish as were asked for: so many for each prompt."""
    events = [
        event({"choices": [{"index": index, "text": "x", "delta": {"content": "x"}, "finish_reason": "stop"}]})
        for index in range(choices)
    ]
    provider.post(f"/{endpoint}").respond(200, content=b"".join(events), headers=STREAM_HEADERS)
    assert (await streamed(client, request(body, endpoint=endpoint)))[2] is None
    provider.post(f"/{endpoint}").respond(200, content=b"".join(events[:-1]), headers=STREAM_HEADERS)
    assert (await streamed(client, request(body, endpoint=endpoint)))[2].code == "stream_read_error"


async def refused(client, asked):
    """The error of a call that comes to no stream."""
    with pytest.raises(ClientError) as caught:
        async with client.stream(asked):
            raise AssertionError("there is a stream")
    return caught.value


@pytest.mark.parametrize("endpoint", ["embeddings", "responses", "../completions"])
async def test_call__endpoint(provider, client, endpoint):
    """What cannot be read as a stream is not asked for."""
    error = await refused(client, request(endpoint=endpoint))
    assert (error.retryable, error.scope) == (False, "request")
    assert not provider.calls


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"'])
async def test_call__bad_body(client, body):
    """Nor is anything sent that is no JSON object."""
    assert (await refused(client, request(body))).code == "bad_request"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    ("status", "code", "hint"), [(500, "server_error", None), (429, "rate_limit", 7.0), (401, "auth_failed", None)]
)
async def test_error_status(provider, client, status, code, hint, kind):
    """A status that is an error is one, as in a plain call."""
    provider.post("/chat/completions").respond(
        status, json={"error": {"message": "No."}}, headers={"content-type": kind, "retry-after": "7"}
    )
    error = await refused(client, request())
    assert (error.code, error.status, error.message) == (code, status, "No.")
    assert hint is None or error.hint == hint


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": {"message": "It broke.", "type": "server_error"}}, "server_error"),
        ({"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}, "invalid_response"),
        ({"choices": []}, "invalid_response"),
        ([], "invalid_response"),
    ],
)
async def test_whole_answer(provider, client, answer, code):
    """A whole answer where a stream was asked for is a failure: its own where it tells of one."""
    provider.post("/chat/completions").respond(200, json=answer)
    error = await refused(client, request())
    assert (error.code, error.status, error.retryable) == (code, 200, True)


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", b"\x00\x01\x02", b'{"error": "x"}'])
async def test_no_events(provider, client, content):
    """A success without a single event is a broken stream."""
    provider.post("/chat/completions").respond(200, content=content, headers={"content-type": "text/html"})
    before, after, error = await streamed(client, request())
    assert (before, after, error.code) == (b"", b"", "stream_read_error")


async def test_content_type__missing(provider, client):
    """Events are read whatever they are called."""
    provider.post("/chat/completions").respond(200, content=b"".join(WHOLE))
    assert (await streamed(client, request()))[2] is None
