"""The strategies that all codecs are tested with: what they generate is what they promise."""

import json

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from standby.clients.dialects import (
    ANSWERS,
    FEATURES,
    Begun,
    Conversation,
    Finished,
    Message,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallBegun,
    ToolCallDelta,
    ToolResult,
)
from tests.clients.canonical import assembled, canonical
from tests.clients.conversations import answers, conversations, deltas_of, few

NAMES = [feature.name for feature in FEATURES]
ALL = {*NAMES, *ANSWERS}


@few
@given(st.data(), st.sets(st.sampled_from(NAMES)))
def test_only_what_is_supported_is_asked(data, supports):
    """A conversation asks for no feature that was not allowed."""
    conversation = data.draw(conversations(supports))
    assert {feature.name for feature in FEATURES if feature.asked(conversation)} <= supports


def test_every_feature_is_asked_for_now_and_then():
    """Where everything is supported everything is generated."""
    missing = set(NAMES)

    def all_were_asked(conversation):
        missing.difference_update([feature.name for feature in FEATURES if feature.asked(conversation)])
        return not missing

    find(conversations(ALL), all_were_asked, settings=settings(few, max_examples=500, phases=[Phase.generate]))


@few
@given(conversations(ALL, signed_calls=True))
def test_a_conversation_is_one_that_vendors_take(conversation):
    """Results follow their calls, in their order and at once; tools that were called are known; the model is spoken to."""
    asked: list[str] = []
    for message in conversation.messages:
        results = [part.id for part in message.parts if isinstance(part, ToolResult)]
        assert results == asked
        assert (message.role == "tool") == bool(results)
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        assert {call.name for call in calls} <= {tool.name for tool in conversation.tools}
        assert all(isinstance(json.loads(call.arguments), dict) for call in calls)
        asked = [call.id for call in calls]
    assert not asked
    assert conversation.messages[-1].role in {"user", "tool"}


@few
@given(conversations(ALL, signed_calls=True))
def test_the_canonical_form_is_one(conversation):
    """What is canonical stays as it is."""
    assert canonical(canonical(conversation)) == canonical(conversation)


@few
@given(st.data(), st.sets(st.sampled_from(sorted(ALL))))
def test_a_stream_tells_its_answer(data, supports):
    """However an answer is cut, its pieces are the answer."""
    answer = data.draw(answers(supports, signed_calls=True))
    assert assembled(data.draw(deltas_of(answer))) == answer


def test_turns_of_one_speaker_are_one_turn():
    """Anthropic merges what a chat may hold apart: texts side by side, results of tools one after the other."""
    said = [Message("user", (Text("a"),)), Message("user", (Text("b"), Text("c")))]
    results = [Message("tool", (ToolResult(ident, (Text("d"),)),)) for ident in "xy"]
    merged = canonical(Conversation(messages=(*said, *results)))
    assert merged.messages == (
        Message("user", (Text("abc"),)),
        Message("tool", (ToolResult("x", (Text("d"),)), ToolResult("y", (Text("d"),)))),
    )


def test_a_stream_is_put_together_by_the_order_of_its_pieces():
    """A signature ends its thought; a hidden thought is another; a call's arguments find it by its index."""
    answer = assembled(
        [
            Begun("i", "m"),
            *(ThinkingDelta("p"), ThinkingDelta("q"), SignatureDelta("s"), SignatureDelta("r", redacted=True)),
            *(TextDelta("x"), ToolCallBegun(0, "c", "f"), ToolCallDelta(0, "{"), ToolCallDelta(0, "}")),
            Finished("tool_calls"),
        ]
    )
    assert answer.choices[0].parts == (
        Thinking("pq", "s"),
        Thinking("", "r", redacted=True),
        Text("x"),
        ToolCall("c", "f", "{}"),
    )


@pytest.mark.parametrize(
    "deltas",
    [
        [TextDelta("x"), Begun("i", "m")],
        [Begun("i", "m"), Begun("i", "m"), Finished("stop")],
        [Begun("i", "m"), TextDelta("x")],
        [Begun("i", "m"), Finished("stop"), TextDelta("x")],
        [Begun("i", "m"), ToolCallBegun(1, "c", "f"), Finished("stop")],
    ],
)
def test_what_is_no_stream_is_not_put_together(deltas):
    """It begins first and once, every choice ends, and nothing comes after that."""
    with pytest.raises(AssertionError):
        assembled(deltas)
