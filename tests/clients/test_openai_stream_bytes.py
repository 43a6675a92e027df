"""The bytes of a stream: what goes through untouched, how large an event may be, and that no cut changes anything."""

from itertools import pairwise
from types import SimpleNamespace

import anyio
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standby.clients import Usage
from standby.clients._sse import MAX_EVENT_BYTES
from tests.clients.openai_streams import (
    CHOICE_ERROR,
    COUNT,
    DONE,
    HEL,
    LO,
    NAMED_ERROR,
    ROLE,
    STOP,
    delta,
    failure,
    failure_after,
    heard,
    opened,
)

pytestmark = pytest.mark.anyio


# -- untouched


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded as JSON."""
    seen = []

    def loads(data):
        seen.append(bytes(data))
        return orjson.loads(data)

    fake = SimpleNamespace(loads=loads, JSONDecodeError=orjson.JSONDecodeError)
    monkeypatch.setattr("standby.clients._passed_stream.orjson", fake)
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
    "failed": [*REFERENCE[:-4], CHOICE_ERROR, DONE],
    "failed early": [*REFERENCE[:3], NAMED_ERROR, *REFERENCE[3:]],
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
