"""Anthropic's Messages: what is written and read back is what it was, and Anthropic's own types take all of it."""

from dataclasses import replace
from itertools import pairwise

import orjson
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from standby.clients._sse import data_in
from standby.clients.dialects import FEATURES, Conversation, Message, Reasoning, Thinking, ToolResult, fitted
from standby.clients.dialects._messages import MESSAGES, messages_for
from standby.clients.dialects._signatures import marked
from tests.clients.canonical import assembled, canonical
from tests.clients.conversations import answers, conversations, deltas_of, few

NEWEST, OLDER = "claude-opus-4-6", "claude-sonnet-4-5-20250929"
PLAIN, STREAMED = TypeAdapter(MessageCreateParamsNonStreaming), TypeAdapter(MessageCreateParamsStreaming)
EVENT = TypeAdapter(RawMessageStreamEvent)
EVERYTHING = {feature.name for feature in FEATURES}
FORGETS = ("developer", "refusal", "schema_name", "schema_strict")
FINISHES = ("stop", "length", "pause")
ASKED = MESSAGES.conversation({"max_tokens": 1, "messages": [{"role": "user", "content": "Hello!"}]})


def signed(said):
    """A conversation or an answer with thoughts that are Anthropic's."""
    turns = said.messages if isinstance(said, Conversation) else said.choices
    changed = tuple(replace(turn, parts=tuple(map(sign, turn.parts))) for turn in turns)
    return replace(said, **{"messages" if isinstance(said, Conversation) else "choices": changed})


def sign(part):
    return replace(part, signature=marked(part.signature, "anthropic")) if isinstance(part, Thinking) else part


told = answers(MESSAGES.supports, id_prefix="msg_", finishes=FINISHES).map(signed)
efforts = st.builds(
    Reasoning,
    st.sampled_from(["", "low", "medium", "high", "xhigh", "max"]),
    shown=st.sampled_from([None, True, False]),
)
reasonings = st.just(Reasoning("none")) | efforts
asked = conversations(MESSAGES.supports, service_tier=st.just("default"), reasoning=reasonings).map(signed)


def as_anthropic_has_it(conversation):
    """In the order in which Messages are: the system first, and results of tools before what the user says then."""
    system = [message for message in conversation.messages if message.role in ("system", "developer")]
    others = [message for message in conversation.messages if message not in system]
    form, choice = conversation.response_format, conversation.tool_choice
    if form is not None:
        described = {"description": form.description} if form.description else {}
        form = replace(form, schema={**form.schema, **described})
    changed = replace(conversation, messages=(*system, *others), response_format=form)
    if choice is not None and choice.kind == "none":  # then there are no calls to come one at a time
        changed = replace(changed, parallel_tool_calls=None)
    return canonical(changed, *FORGETS)


def written(deltas):
    writer = MESSAGES.writer(ASKED)
    return b"".join(map(writer.write, deltas)) + writer.end()


def read(raw, cuts):
    frames, reader = MESSAGES.frames(), MESSAGES.reader()
    places = [0, *sorted(cuts), len(raw)]
    events = [event for start, end in pairwise(places) for event in frames.feed(raw[start:end])]
    deltas = [delta for event in events for delta in reader.read(event)]
    assert (frames.rest(), reader.done) == ([], True)
    return deltas


@few
@given(asked, st.booleans())
def test_request(conversation, stream):
    """A request as Anthropic has it; what this model cannot do is named."""
    wire = messages_for(NEWEST)
    fits, dropped = fitted(conversation, wire, EVERYTHING)
    data = orjson.loads(wire.written(fits, NEWEST, stream=stream))
    (STREAMED if stream else PLAIN).validate_python(data)
    assert set(dropped) <= {"temperature", "top_p", "top_k", "tool_choice"}
    assert data.get("stream") is (True if stream else None)
    heard = canonical(MESSAGES.conversation(data), *FORGETS)
    assert heard == replace(as_anthropic_has_it(fits), max_tokens=fits.max_tokens or 32768)


@few
@given(asked)
def test_request__to_a_model_that_thinks_on_a_budget(conversation):
    """The budget of the thoughts is less than the bound on all tokens, and never less than what is taken."""
    wire = messages_for(OLDER)
    fits, _ = fitted(conversation, wire, EVERYTHING)
    data = orjson.loads(wire.written(fits, OLDER, stream=False))
    PLAIN.validate_python(data)
    thinking = data.get("thinking", {"type": "disabled"})
    if thinking["type"] == "enabled":
        assert 1024 <= thinking["budget_tokens"] < data["max_tokens"]


@few
@given(conversations(EVERYTHING).map(signed))
def test_request__with_what_anthropic_has_not(conversation):
    """What goes out has everything but what was named as left out."""
    fits, _ = fitted(conversation, MESSAGES, EVERYTHING)
    heard = MESSAGES.conversation(orjson.loads(MESSAGES.written(fits, "m", stream=False)))
    for feature in FEATURES:
        if feature.asked(as_anthropic_has_it(fits)):
            assert feature.asked(heard), feature.name


@few
@given(told)
def test_answer(answer):
    """A whole answer as Anthropic has it."""
    data = orjson.loads(orjson.dumps(MESSAGES.answered(answer, ASKED)))
    SdkMessage.model_validate(data)
    assert canonical(MESSAGES.read(data)) == canonical(answer, "created")


@few
@given(told.flatmap(lambda answer: st.tuples(st.just(answer), deltas_of(answer))), st.data())
def test_stream(answer_and_deltas, data):
    """A stream assembles to the same answer, wherever its bytes are cut."""
    answer, deltas = answer_and_deltas
    raw = written(deltas)
    for content in data_in(raw):
        EVENT.validate_json(content)
    heard = read(raw, cuts=data.draw(st.lists(st.integers(1, len(raw)), max_size=3)))
    assert canonical(assembled(heard)) == canonical(answer, "created")


@few
@given(told.flatmap(deltas_of))
def test_blocks_of_a_stream(deltas):
    """Each block begins, goes on and ends before the next; a message has one beginning, one reason and one end."""
    events = [orjson.loads(data) for data in data_in(written(deltas))]
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    open_block, count = None, 0
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert (open_block, event["index"]) == (None, count)
                open_block, count = count, count + 1
            case "content_block_delta":
                assert event["index"] == open_block
            case "content_block_stop":
                assert event["index"] == open_block
                open_block = None
    assert open_block is None


def test_turns_of_one_side_are_one():
    """Results of tools and what the user says then are one turn, in the order said."""
    said = [
        {"role": "user", "content": "Hello!"},
        {"role": "user", "content": [{"type": "text", "text": "Anybody?"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]
    conversation = MESSAGES.conversation({"max_tokens": 1, "messages": said})
    assert [message.role for message in conversation.messages] == ["user", "user", "assistant", "tool", "user"]
    sent = orjson.loads(MESSAGES.written(conversation, "m", stream=False))["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]
    assert [block["type"] for block in sent[2]["content"]] == ["tool_result", "text"]


def test_a_result_may_have_nothing_in_it():
    """It says that the tool is done."""
    turn = Message("tool", (ToolResult("toolu_1", ()),))
    sent = orjson.loads(MESSAGES.written(replace(ASKED, messages=(turn,)), "m", stream=False))
    assert sent["messages"][0]["content"] == [{"type": "tool_result", "tool_use_id": "toolu_1"}]
