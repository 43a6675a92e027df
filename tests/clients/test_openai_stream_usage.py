"""The tokens of a stream: when they are known, and whether the caller is told."""

import pytest

from standby.clients import Usage
from tests.clients.openai_streams import COUNT, CUT, DONE, HEL, ROLE, STOP, event, heard, opened

pytestmark = pytest.mark.anyio


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
