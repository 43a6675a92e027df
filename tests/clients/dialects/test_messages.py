"""Anthropic's Messages: what a caller may not say, what a generation of Claude cannot do, and what is no answer."""

import orjson
import pytest

from standby.clients._sse import Event
from standby.clients.dialects import (
    Begun,
    CacheMark,
    Conversation,
    Counted,
    File,
    Finished,
    Image,
    InvalidRequest,
    LogprobsDelta,
    Message,
    NotAnAnswer,
    Reasoning,
    ResponseFormat,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    Tool,
    ToolCall,
    ToolCallBegun,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
)
from standby.clients.dialects._claude import Claude, claude_of
from standby.clients.dialects._effort import budget_of, effort_of
from standby.clients.dialects._messages import MESSAGES, messages_for

HI = Message("user", (Text("Hi"),))
USER = {"role": "user", "content": "Hi"}
OLDER, ADAPTIVE, NEWEST = "claude-sonnet-4-20250514", "claude-opus-4-6", "claude-opus-4-8"


def sent(conversation, model=ADAPTIVE):
    return orjson.loads(MESSAGES.written(conversation, model, stream=False))


# -- what a caller may not say -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
        ({"messages": [USER, {"role": "user", "content": [{"text": "x"}]}]}, "messages[1].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "ftp"}}]}]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url"}}]}]},
            "messages[0].content[0].source.url",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": []}]}
                ]
            },
            "messages[0].content[0].input",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [{"type": "thinking", "thinking": "x"}],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content",
        ),
        ({"system": 1}, "system"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"stop_sequences": ["x", 1]}, "stop_sequences[1]"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "display": "loud"}}, "thinking.display"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_is_no_request_is_refused_by_its_place(wrong, param):
    """Where it is, what it is, what is allowed."""
    with pytest.raises(InvalidRequest) as refused:
        MESSAGES.conversation({"max_tokens": 9, "messages": [USER], **wrong})
    assert refused.value.param == param
    assert str(refused.value).startswith(param)


# -- what a model cannot do --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("claude-3-haiku-20240307", (3, 0)),
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-3-7-sonnet-latest", (3, 7)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-opus-4-1-20250805", (4, 1)),
        ("claude-haiku-4-5", (4, 5)),
        ("claude-sonnet-4-5@20250929", (4, 5)),
        ("us.anthropic.claude-opus-4-6-v1:0", (4, 6)),
        ("anthropic/claude-opus-4.7", (4, 7)),
        ("claude-sonnet-5", (5, 0)),
        ("claude-2.1", (2, 1)),
        ("claude", None),
        ("MiniMax-M2", None),
    ],
)
def test_the_generation_is_in_the_name(name, version):
    """Anthropic's own names, and those of others for them."""
    assert claude_of(name) == Claude(version)


def asks(**fields):
    return Conversation(messages=(HI,), **fields)


def of(*parts, role="user"):
    return Conversation(messages=(Message(role, parts),))


THOUGHT, CALL, RESULT = Thinking("Hm.", "anthropic:c2ln"), ToolCall("toolu_1", "f", "{}"), ToolResult("toolu_1", ())
MARKED = [Text(str(number), CacheMark()) for number in range(5)]
LACKS = {
    "hot": (asks(temperature=1.5), OLDER, {"temperature": "0 to 1"}),
    "both": (asks(temperature=0.5, top_p=0.5), "claude-haiku-4-5", {"top_p": "not beside temperature"}),
    "both, before": (asks(temperature=0.5, top_p=0.5), "claude-3-7-sonnet", {}),
    "newest": (
        asks(temperature=0.5, top_k=3),
        NEWEST,
        {"temperature": "not with this model", "top_k": "not with this model"},
    ),
    "newest, as it is": (asks(temperature=1.0), NEWEST, {}),
    "unknown": (asks(temperature=0.5, top_p=0.5, top_k=3), "somebody", {}),
    "does not think": (
        asks(reasoning=Reasoning("low")),
        "claude-3-5-haiku",
        {"reasoning": "this model does not think"},
    ),
    "need not think": (asks(reasoning=Reasoning("none")), "claude-3-5-haiku", {}),
    "no budget": (
        asks(reasoning=Reasoning(budget_tokens=100)),
        OLDER,
        {"reasoning": "a budget of at least 1024 tokens"},
    ),
    "no room": (
        asks(reasoning=Reasoning("low"), max_tokens=1024),
        OLDER,
        {"reasoning": "its tokens are among max_tokens, which must be more"},
    ),
    "no room, with an effort": (asks(reasoning=Reasoning("low"), max_tokens=10), ADAPTIVE, {}),
    "while it thinks": (
        asks(
            reasoning=Reasoning("low"),
            temperature=0.5,
            top_p=0.5,
            top_k=3,
            tools=(Tool("f"),),
            tool_choice=ToolChoice("required"),
        ),
        "claude-3-7-sonnet",
        {
            "temperature": "1 while it thinks",
            "top_p": "0.95 to 1 while it thinks",
            "top_k": "not while it thinks",
            "tool_choice": "auto or none while it thinks",
        },
    ),
    "began without thoughts": (
        Conversation(
            messages=(HI, Message("assistant", (CALL,)), Message("tool", (RESULT,))), reasoning=Reasoning("low")
        ),
        OLDER,
        {"reasoning": "not between calls of tools that it began without thoughts of its own"},
    ),
    "began with a thought": (
        Conversation(
            messages=(HI, Message("assistant", (THOUGHT, CALL)), Message("tool", (RESULT,))), reasoning=Reasoning("low")
        ),
        OLDER,
        {},
    ),
    "others' thoughts": (
        of(Thinking("Hm.", "gemini:c2ln"), role="assistant"),
        NEWEST,
        {"thinking": "only what it thought itself"},
    ),
    "picture": (of(Image(data="eA==", media_type="image/tiff")), NEWEST, {"image_data": "JPEG, PNG, GIF or WebP"}),
    "document": (of(File(data="eA==", media_type="application/zip")), NEWEST, {"file_data": "PDF or text"}),
    "no text": (of(File(data="/w==", media_type="text/plain")), NEWEST, {"file_data": "PDF or text"}),
    "address": (of(File(url="https://a/b", media_type="text/csv")), NEWEST, {"file_url": "PDF only"}),
    "system": (of(Image(url="https://a/b"), role="system"), NEWEST, {"system": "text only"}),
    "marks": (of(*MARKED), NEWEST, {"cache": "at most 4 marks, for 5m or 1h"}),
    "long": (of(Text("x", CacheMark("24h"))), NEWEST, {"cache": "at most 4 marks, for 5m or 1h"}),
    "white": (asks(stop=("\n\n",)), NEWEST, {"stop": "not white space alone"}),
    "tier": (asks(service_tier="flex"), NEWEST, {"service_tier": "default only"}),
}


@pytest.mark.parametrize(("conversation", "model", "lacks"), LACKS.values(), ids=LACKS)
def test_what_a_model_cannot_do_is_told_before_it_is_asked(conversation, model, lacks):
    """By the feature's name, and why."""
    assert messages_for(model).lacks(conversation) == lacks


# -- what is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "most"),
    [("claude-3-haiku-20240307", 4096), ("claude-3-5-sonnet", 8192), (OLDER, 8192), (ADAPTIVE, 32768), ("other", 8192)],
)
def test_how_long_an_answer_may_be_where_nobody_says(model, most):
    """Anthropic must be told; older models refuse more than they can."""
    assert sent(asks(), model)["max_tokens"] == most


@pytest.mark.parametrize(
    ("reasoning", "max_tokens", "budget", "most"),
    [
        (Reasoning("medium"), None, 8192, 16384),
        (Reasoning("max"), None, 23552, 31744),
        (Reasoning(budget_tokens=2000), None, 2000, 10192),
        (Reasoning("high"), 4000, 2000, 4000),
        (Reasoning("high"), 1500, 1024, 1500),
        (Reasoning(budget_tokens=2000), 2001, 2000, 2001),
    ],
)
def test_an_effort_is_a_budget_where_the_model_takes_none(reasoning, max_tokens, budget, most):
    """It leaves room for the answer: half of what was allowed, or what is usual."""
    body = sent(asks(reasoning=reasoning, max_tokens=max_tokens), OLDER)
    assert (body["thinking"]["budget_tokens"], body["max_tokens"]) == (budget, most)


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [(Reasoning("minimal"), "low"), (Reasoning(budget_tokens=3000), "medium"), (Reasoning(), None)],
)
def test_a_budget_is_an_effort_where_the_model_takes_none(reasoning, effort):
    """The newest decide themselves how many tokens that is."""
    body = sent(asks(reasoning=reasoning))
    assert (body["thinking"], body.get("output_config", {}).get("effort")) == ({"type": "adaptive"}, effort)


@pytest.mark.parametrize(
    ("budget", "effort"),
    [
        (0, "none"),
        (-1, ""),
        (1, "low"),
        (2048, "low"),
        (2049, "medium"),
        (16384, "high"),
        (16385, "xhigh"),
        (10**6, "xhigh"),
    ],
)
def test_a_budget_stands_for_the_least_effort_that_it_fits_in(budget, effort):
    """0 is none; a negative one leaves it to the model."""
    assert effort_of(Reasoning(budget_tokens=budget)) == effort
    assert effort_of(Reasoning("max", budget_tokens=budget)) == "max"
    assert budget_of(Reasoning("max", budget_tokens=budget)) == budget


def test_an_effort_that_nobody_knows_is_a_medium_one():
    """And none is none."""
    assert [budget_of(Reasoning(effort)) for effort in ("", "new", "none", "minimal")] == [8192, 8192, 0, 1024]


def test_a_choice_of_tools_is_none_where_there_are_none():
    """Anthropic refuses it."""
    assert "tool_choice" not in sent(asks(tool_choice=ToolChoice("auto"), parallel_tool_calls=False))


def test_what_says_nothing_is_not_sent():
    """Empty texts and turns are refused, and have nothing in them."""
    turns = (HI, Message("assistant", (Text(""), CALL)), Message("user", (Text(""),)))
    assert [len(turn["content"]) for turn in sent(Conversation(messages=turns))["messages"]] == [1, 1]


def test_ids_are_in_letters_that_anthropic_takes():
    """A call and its result still have the same."""
    call, result = ToolCall("functions.f:0", "f", "{}"), ToolResult("functions.f:0", ())
    turns = (HI, Message("assistant", (call,)), Message("tool", (result,)))
    _, said, done = sent(Conversation(messages=turns))["messages"]
    assert said["content"][0]["id"] == done["content"][0]["tool_use_id"] == "functions_f_0"


def test_what_a_form_is_described_as_is_in_its_schema():
    """Unless that describes itself."""
    for schema, told in [({}, "A day."), ({"description": "Mine."}, "Mine.")]:
        form = ResponseFormat("json_schema", "day", schema, description="A day.")
        body = sent(asks(response_format=form))
        assert body["output_config"]["format"] == {"type": "json_schema", "schema": {"description": told}}


# -- what is no answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"content": "Hi", "stop_reason": "end_turn"},
        {"content": [1], "stop_reason": "end_turn"},
        {"content": [], "stop_reason": None},
        {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": "{}"}], "stop_reason": "tool_use"},
    ],
)
def test_what_is_no_answer(data):
    """It is malformed, and says how."""
    with pytest.raises(NotAnAnswer):
        MESSAGES.read(data)


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"type":1}'])
def test_what_is_no_event(data):
    """Nor a part of a stream."""
    with pytest.raises(NotAnAnswer):
        list(MESSAGES.reader().read(Event(data, "message")))


# -- what callers hear -------------------------------------------------------------------------------------------


def written(*deltas):
    writer = MESSAGES.writer(asks())
    raw = b"".join(map(writer.write, deltas)) + writer.end()
    return [orjson.loads(line.removeprefix(b"data: ")) for line in raw.split(b"\n") if line.startswith(b"data: ")]


def test_a_server_that_mixes_calls_is_understood():
    """Blocks do not mix: what comes late has the index of its own call."""
    deltas = [
        Begun("1", "m"),
        ToolCallBegun(0, "a", "f"),
        ToolCallBegun(1, "b", "g"),
        ToolCallDelta(0, "{}"),
        ToolCallDelta(1, "[]"),
        Finished("tool_calls"),
    ]
    said = [
        (event["index"], event["delta"]["partial_json"])
        for event in written(*deltas)
        if "delta" in event and "index" in event
    ]
    assert said == [(0, "{}"), (1, "[]")]


def test_what_this_dialect_cannot_tell_is_not_told():
    """Other choices, and how likely tokens are."""
    kinds = [event["type"] for event in written(Begun("1", "m"), TextDelta("x", choice=1), LogprobsDelta(()))]
    assert kinds == ["message_start", "message_delta", "message_stop"]


def test_a_signature_without_words_is_a_thought_all_the_same():
    """Where thoughts are hidden."""
    events = written(Begun("1", "m"), SignatureDelta("anthropic:c2ln"))
    assert [event["type"] for event in events[1:-2]] == [
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    ]
    assert events[2]["delta"] == {"type": "signature_delta", "signature": "c2ln"}


def test_tokens_that_are_counted_after_the_end_are_told():
    """As other vendors count them."""
    counted = MESSAGES.read(
        {"content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 4}}
    ).usage
    events = written(Begun("1", "m"), TextDelta("x"), Finished("length"), Counted(counted))
    assert (events[-2]["delta"]["stop_reason"], events[-2]["usage"]["input_tokens"]) == ("max_tokens", 3)


def test_a_block_that_is_open_at_the_end_is_closed():
    """Some servers end without a reason."""
    kinds = [event["type"] for event in written(Begun("1", "m"), TextDelta("x"))]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
