"""A stream before its commit: what is content, and what is held back or left out until there is some."""

import pytest

from standby.clients import Block
from standby.clients._breaks import MAX_SILENT_BYTES
from tests.clients.openai_streams import HEL, LO, ROLE, STOP, event, failure, heard, opened

pytestmark = pytest.mark.anyio


async def test_before_the_commit_events_come_one_by_one():
    """Where the commit comes later than the first content, too: how many come together is chance."""
    stream = opened(ROLE + HEL + LO + STOP)
    blocks = [await stream.read() for _ in range(4)]
    assert blocks == [Block(ROLE, False), Block(HEL, True), Block(LO, True), Block(STOP, False)]


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
