"""The end of a stream: which one is complete, which one was broken off, and which one has answered nothing."""

import anyio
import pytest

from standby.clients import Block
from standby.clients._openai_stream import OpenAIStream
from tests.clients.conftest import NOW
from tests.clients.openai_streams import (
    COUNT,
    CUT,
    DONE,
    HEL,
    LO,
    ROLE,
    STOP,
    WHOLE,
    Scripted,
    delta,
    event,
    failure,
    heard,
    opened,
)

pytestmark = pytest.mark.anyio


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


async def test_finished():
    """Whether the answer is complete is known before the stream is over."""
    stream = opened(HEL, STOP, "hang")
    assert (await stream.read(), stream.finished) == (Block(HEL, True), False)
    stream.commit()
    assert (await stream.read(), stream.finished) == (Block(STOP, True), True)


# -- where it ends


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


# -- what it must have said by then


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
