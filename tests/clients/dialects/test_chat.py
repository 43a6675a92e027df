"""OpenAI's chat completions: what is refused by its place, what is kept by its name, and what servers leave out."""

import json

import orjson
import pytest

from standby.clients import ClientError, Usage
from standby.clients._sse import Event, data_in
from standby.clients.dialects import (
    Begun,
    CacheMark,
    Conversation,
    Counted,
    File,
    Finished,
    Image,
    InvalidRequest,
    Logprob,
    LogprobsDelta,
    Message,
    NotAnAnswer,
    Reasoning,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallBegun,
    ToolCallDelta,
    ToolChoice,
    fitted,
)
from standby.clients.dialects._chat import CHAT, Chat

HELLO = {"role": "user", "content": "Hello!"}
ASKED = CHAT.conversation({"messages": [HELLO]})


def calling(**function):
    return {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello!"}, "messages"),
        ({"messages": [HELLO, "Hello!"]}, "messages[1]"),
        ({"messages": [{"role": "king", "content": "Hello!"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "Hello!"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,a"}}]}
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
        ({"messages": [calling(arguments="{}")]}, "messages[0].tool_calls[0].function.name"),
        ({"messages": [calling(name="now", arguments="{")]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [calling(name="now", arguments="[]")]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "tool", "content": "noon"}]}, "messages[0].tool_call_id"),
        ({"messages": [HELLO], "tools": [{"type": "function"}]}, "tools[0].function"),
        ({"messages": [HELLO], "tool_choice": "any"}, "tool_choice"),
        ({"messages": [HELLO], "stop": ["END", 7]}, "stop[1]"),
        ({"messages": [HELLO], "temperature": "hot"}, "temperature"),
        ({"messages": [HELLO], "n": 0}, "n"),
        ({"messages": [HELLO], "n": True}, "n"),
        ({"messages": [HELLO], "max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"messages": [HELLO], "top_logprobs": 3}, "logprobs"),
        ({"messages": [HELLO], "reasoning_effort": "huge"}, "reasoning_effort"),
        ({"messages": [HELLO], "response_format": {"type": "xml"}}, "response_format.type"),
        ({"messages": [HELLO], "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": [HELLO], "logit_bias": {"50256": "never"}}, "logit_bias.50256"),
        ({"messages": [HELLO], "stream_options": []}, None),
        ({"messages": [HELLO], "stream_options": "yes"}, "stream_options"),
    ],
)
def test_invalid(body, param):
    """What is not of this dialect is refused by its place; an empty list says nothing."""
    if param is None:
        assert CHAT.conversation(body) == ASKED
        return
    with pytest.raises(InvalidRequest) as caught:
        CHAT.conversation(body)
    assert caught.value.param == param
    assert str(caught.value).startswith(param)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"messages": [HELLO], "min_p": 0.1, "seedling": None}, {"min_p"}),
        ({"messages": [HELLO | {"mood": "glad"}]}, {"mood"}),
        (
            {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "u"}}]}]},
            {"video_url"},
        ),
        ({"messages": [HELLO, {"role": "function", "name": "now", "content": "noon"}]}, {"function"}),
        ({"messages": [HELLO, {"role": "assistant", "audio": {"id": "audio_1"}}]}, {"audio"}),
        ({"messages": [HELLO], "tools": [{"type": "custom", "custom": {"name": "shell"}}]}, {"custom"}),
        ({"messages": [HELLO], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, {"allowed_tools"}),
        ({"messages": [HELLO], "user": "a", "safety_identifier": "b"}, {"safety_identifier"}),
        ({"messages": [HELLO], "stream_options": {"loud": True}}, {"stream_options"}),
        ({"messages": [HELLO], "reasoning": {"summary": "auto"}}, {"reasoning"}),
    ],
)
def test_extra(body, names):
    """What no other dialect has is kept by its own name wherever it stood: so it is refused, or left out, by name."""
    conversation = CHAT.conversation(body)
    assert set(conversation.extra) == names
    with pytest.raises(ClientError, match=next(iter(names))):
        fitted(conversation, CHAT, ())
    assert set(fitted(conversation, CHAT, names)[1]) == names


def test_mark__of_a_message():
    """A mark for the cache on a whole message is one on its text."""
    marked = CHAT.conversation({"messages": [HELLO | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]})
    assert marked.messages[0].parts == (Text("Hello!", CacheMark("1h")),)


@pytest.mark.parametrize(
    ("asked", "feature"),
    [
        ({"stop": tuple("abcde")}, "stop"),
        ({"temperature": 2.5}, "temperature"),
        ({"reasoning": Reasoning("low", shown=True)}, "reasoning"),
        ({"messages": (Message("user", (File(data="aGk=", media_type="audio/flac"),)),)}, "audio"),
        ({"messages": (Message("user", (File(url="https://a.example/a.wav", media_type="audio/wav"),)),)}, "audio"),
    ],
)
def test_lacks(asked, feature):
    """A value that OpenAI cannot take is told before it is sent."""
    assert set(CHAT.lacks(Conversation(**{"messages": (), **asked}))) == {feature}


def test_reasoning__a_budget_is_an_effort():
    """A budget becomes the least effort that it fits in; that no thoughts are to be shown needs no words."""
    asked = Conversation(messages=ASKED.messages, reasoning=Reasoning(budget_tokens=3000, shown=False))
    assert not CHAT.lacks(asked)
    assert json.loads(CHAT.written(asked, "m", stream=False))["reasoning_effort"] == "medium"


@pytest.mark.parametrize(
    ("reasoning", "means"),
    [
        ({"enabled": True}, Reasoning("medium")),
        ({"enabled": False}, Reasoning("none")),
        ({"enabled": True, "effort": "low"}, Reasoning("low")),
        ({"enabled": True, "max_tokens": 2000}, Reasoning("", 2000)),
    ],
)
def test_reasoning__openrouter(reasoning, means):
    """That there is to be thinking at all says how much, unless something else does."""
    assert CHAT.conversation({"messages": [HELLO], "reasoning": reasoning}).reasoning == means


def thoughts_in(**message):
    return CHAT.conversation({"messages": [{"role": "assistant", "content": "", **message}]}).messages[0].parts


def test_thoughts():
    """Thoughts are read wherever servers put them; pieces of one are joined up to its signature, and no further."""
    assert thoughts_in(reasoning="Hm.") == thoughts_in(reasoning_content="Hm.") == (Thinking("Hm."),)
    pieces = [{"text": "A"}, {"signature": "s"}, {"text": "B"}]
    details = [{"type": "reasoning.text", "index": 0, **piece} for piece in pieces]
    assert thoughts_in(reasoning_details=details) == (Thinking("A", "s"), Thinking("B"))
    separate = [{"type": "reasoning.text", "text": "A"}, {"type": "reasoning.text", "text": "B"}]
    assert thoughts_in(reasoning_details=separate) == (Thinking("A"), Thinking("B"))


def test_image_detail__auto_is_none():
    """To look as closely as one likes is what happens anyhow."""
    image = {"type": "image_url", "image_url": {"url": "https://a.example/a.png", "detail": "auto"}}
    [part] = CHAT.conversation({"messages": [{"role": "user", "content": [image]}]}).messages[0].parts
    assert part == Image("https://a.example/a.png")


# -- answers -----------------------------------------------------------------------------------------------------


def answer(message, **choice):
    return {"id": "1", "choices": [{"message": message, "finish_reason": "stop", **choice}]}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"choices": []},
        {"choices": ["Hi."]},
        answer(None),
        answer({"content": "Hi."}, finish_reason=None),
        answer({"tool_calls": [{"id": "call_1", "function": {"arguments": "{}"}}]}),
    ],
)
def test_answer__none(data):
    """What has not the shape of an answer is none."""
    with pytest.raises(NotAnAnswer):
        CHAT.read(data)


def test_answer__call_without_id():
    """Calls get ids where a server gives none, and arguments that came as an object, or not at all, are text."""
    calls = [{"function": {"name": "now"}}, {"function": {"name": "at", "arguments": {"hour": 12}}}]
    [choice] = CHAT.read(answer({"tool_calls": calls})).choices
    assert choice.parts == (ToolCall("call_0", "now", "{}"), ToolCall("call_1", "at", '{"hour":12}'))


def test_answered__ids_are_as_openais():
    """An id that is not of OpenAI's form is made one; one that is stays."""
    said = CHAT.read(answer({"content": "Hi."}))
    assert CHAT.answered(said, ASKED)["id"] == "chatcmpl-1"
    assert CHAT.answered(CHAT.read(CHAT.answered(said, ASKED)), ASKED)["id"] == "chatcmpl-1"


def test_answered__logprobs_of_a_refusal():
    """How likely the tokens of a refusal were has a place of its own."""
    token = {"token": "No.", "logprob": -0.5, "bytes": [78, 111, 46], "top_logprobs": []}
    logprobs = {"content": None, "refusal": [token]}
    said = CHAT.read(answer({"refusal": "No."}, logprobs=logprobs))
    assert said.choices[0].logprobs == (Logprob("No.", -0.5),)
    assert CHAT.answered(said, ASKED)["choices"][0]["logprobs"] == logprobs


# -- streams -----------------------------------------------------------------------------------------------------


def chunk(finish_reason=None, **delta):
    return {"id": "1", "model": "m", "created": 7, "choices": [{"delta": delta, "finish_reason": finish_reason}]}


def read(*chunks, done=True):
    reader = CHAT.reader()
    events = [Event(orjson.dumps(each), "message") for each in chunks] + [Event(b"[DONE]", "message")] * done
    [begun, *rest] = [delta for event in events for delta in reader.read(event)]
    assert (begun, reader.done) == (Begun("1", "m", 7), done)
    return rest


@pytest.mark.parametrize("data", [b"Hi.", b"[]", b'"Hi."'])
def test_stream__no_chunk(data):
    """An event that is no JSON object is no chunk."""
    with pytest.raises(NotAnAnswer):
        list(CHAT.reader().read(Event(data, "message")))


def test_stream__calls_that_are_not_counted():
    """Where a server counts no calls, or all as the first, a new id is a new call."""
    first = {"id": "call_1", "function": {"name": "now", "arguments": "{}"}}
    second = {"id": "call_2", "function": {"name": "at", "arguments": '{"hour"'}}
    more = {"function": {"arguments": ":12}"}}
    for calls in [(first, second, more), [call | {"index": 0} for call in (first, second, more)]]:
        assert read(*(chunk(tool_calls=[call]) for call in calls), chunk("tool_calls")) == [
            ToolCallBegun(0, "call_1", "now"),
            ToolCallDelta(0, "{}"),
            ToolCallBegun(1, "call_2", "at"),
            ToolCallDelta(1, '{"hour"'),
            ToolCallDelta(1, ":12}"),
            Finished("tool_calls"),
        ]


def test_stream__call_without_a_name():
    """A call whose name never came is none."""
    with pytest.raises(NotAnAnswer, match="name"):
        read(chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]))


def test_stream__no_reason():
    """`[DONE]` says that a stream is complete where its choices did not say why they end."""
    assert read(chunk(content="Hi.")) == [TextDelta("Hi."), Finished("stop")]
    assert read(chunk(content="Hi.", role="assistant"), chunk("length")) == [TextDelta("Hi."), Finished("length")]


def test_frames__last_event_without_its_end():
    """The last event may lack the blank line after it; half an event is none, and an end that never comes is no end."""
    for rest, events in [(b"data: [DONE]", 1), (b'data: {"choices":[]}\n', 1), (b'data: {"cho', 0), (b"", 0)]:
        frames = CHAT.frames()
        assert [event.data for event in frames.feed(b'data: {"a":1}\n\n' + rest)] == [b'{"a":1}']
        assert len(frames.rest()) == events


def test_frames__may_end_without_finish():
    """Where a server just ends its streams, that is the end."""
    frames = Chat(may_end_without_finish=True).frames()
    frames.feed(b'data: {"a":1}\n\ndata: {"b":2}')
    assert [event.data for event in frames.rest()] == [b'{"b":2}', b"[DONE]"]


def written(*deltas, **asked):
    writer = CHAT.writer(CHAT.conversation({"messages": [HELLO], **asked}))
    [*chunks, done] = data_in(b"".join(map(writer.write, (Begun("1", "m", 7), *deltas))) + writer.end())
    assert done == b"[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def test_writer__usage():
    """The tokens come last and alone, with a null before them, and only where they were asked for."""
    deltas = TextDelta("Hi."), Finished("stop"), Counted(Usage(3, 1)), Counted(Usage(3, 2))
    assert not any("usage" in chunk for chunk in written(*deltas))
    *before, last = written(*deltas, stream_options={"include_usage": True})
    assert {chunk["usage"] for chunk in before} == {None}
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 2)


def test_writer__logprobs():
    """How likely tokens are stands in the chunk of their text; a text that has none comes without."""
    likely = Logprob("Hi", -0.5)
    deltas = TextDelta("Hi"), LogprobsDelta((likely,)), TextDelta("!"), Finished("stop")
    _, first, second, _ = written(*deltas, logprobs=True)
    assert (first["choices"][0]["delta"], second["choices"][0]["delta"]) == ({"content": "Hi"}, {"content": "!"})
    assert first["choices"][0]["logprobs"]["content"][0]["bytes"] == [72, 105]
    assert second["choices"][0]["logprobs"] is None


def test_writer__thoughts():
    """Each thought has a place of its own: after its signature, and after something else was said, begins the next."""
    deltas = (
        *(ThinkingDelta("A"), SignatureDelta("s"), ThinkingDelta("B"), TextDelta("Hi."), ThinkingDelta("C")),
        *(SignatureDelta("hidden", redacted=True), Finished("stop")),
    )
    details = [
        detail for chunk in written(*deltas) for detail in chunk["choices"][0]["delta"].get("reasoning_details", ())
    ]
    assert [(detail["index"], detail["type"]) for detail in details] == [
        *((0, "reasoning.text"), (0, "reasoning.text"), (1, "reasoning.text"), (2, "reasoning.text")),
        (3, "reasoning.encrypted"),
    ]


def test_writer__role():
    """Each choice begins with its role, before its first words."""
    first, text, other, _ = written(TextDelta("Hi."), TextDelta("Ho.", 1))
    assert (first["choices"][0]["delta"]["role"], text["choices"][0]["delta"]) == ("assistant", {"content": "Hi."})
    assert (other["choices"][0]["index"], other["choices"][0]["delta"]["role"]) == (1, "assistant")


def test_thinking__as_signed_by():
    """A server that signs thoughts gets back its own; those of others it is not sent."""
    from standby.clients._presets import OPENROUTER

    wire = Chat(OPENROUTER)
    details = [{"type": "reasoning.text", "text": "Hm.", "signature": "s"}]
    said = wire.read(answer({"content": "Hi.", "reasoning_details": details})).choices[0]
    assert said.parts[0] == Thinking("Hm.", "openrouter:s")
    own, others = (
        Conversation(messages=(*ASKED.messages, Message("assistant", (thought, Text("Hi.")))))
        for thought in (said.parts[0], Thinking("Hm.", "gemini:s"))
    )
    sent = json.loads(wire.written(own, "m", stream=False))["messages"][1]
    assert sent["reasoning_details"] == [{"type": "reasoning.text", "index": 0, "text": "Hm.", "signature": "s"}]
    assert fitted(others, wire, {"thinking"})[1] == ("thinking",)
    assert not wire.lacks(own)


def test_tool_choice__auto_is_none():
    """To choose as one likes is what happens anyhow, and so is to choose nothing where there is nothing to choose."""
    tools = [{"type": "function", "function": {"name": "now"}}]
    assert CHAT.conversation({"messages": [HELLO], "tools": tools, "tool_choice": "auto"}).tool_choice is None
    assert CHAT.conversation({"messages": [HELLO], "tool_choice": "none"}).tool_choice is None
    assert CHAT.conversation({"messages": [HELLO], "tools": tools, "tool_choice": "none"}).tool_choice == ToolChoice(
        "none"
    )
