"""Bedrock's Converse: what it has its own way, and what it cannot say."""

import json

import orjson
import pytest

from standby.clients.dialects import (
    CacheMark,
    Conversation,
    File,
    Image,
    Message,
    NotAnAnswer,
    Reasoning,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from standby.clients.dialects._converse import CONVERSE

HELLO = Message("user", (Text("Hello!"),))
CLOCK = Tool("clock")
CALL = Message("assistant", (ToolCall("call_1", "clock", "{}"),))
RESULT = Message("tool", (ToolResult("call_1", (Text("Noon."),)),))
PDF = "application/pdf"


def body(*messages, **fields):
    return json.loads(CONVERSE.written(Conversation(messages=messages or (HELLO,), **fields), "m", stream=False))


def lacks(*messages, **fields):
    return CONVERSE.lacks(Conversation(messages=messages or (HELLO,), **fields))


# -- what is written ---------------------------------------------------------------------------------------------


def test_turns():
    """User and assistant alternate: turns of one are one, and results of tools are the user's."""
    question = Message("user", (Text("And in Rome?"),))
    turns = body(HELLO, HELLO, CALL, RESULT, question, tools=(CLOCK,))["messages"]
    assert [(turn["role"], [*map(list, turn["content"])]) for turn in turns] == [
        ("user", [["text"], ["text"]]),
        ("assistant", [["toolUse"]]),
        ("user", [["toolResult"], ["text"]]),
    ]


def test_system():
    """Instructions have one place, before all turns."""
    written = body(Message("system", (Text("Be brief."),)), HELLO, Message("developer", (Text("Be kind."),)), HELLO)
    assert written["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert written["messages"] == [{"role": "user", "content": [{"text": "Hello!"}, {"text": "Hello!"}]}]


def test_text__of_nothing():
    """Bedrock refuses a text in which nothing is said: it is left out, and so is a turn that has nothing else."""
    empty = Message("assistant", (Text(" \n"),))
    assert body(HELLO, empty, HELLO)["messages"] == [{"role": "user", "content": [{"text": "Hello!"}] * 2}]


def test_call__id_of_another_vendor():
    """An id of a form that Bedrock refuses becomes one that it takes, the same for a call and its result."""
    odd = "call/" + "x" * 100
    call = Message("assistant", (ToolCall(odd, "clock", "{}"),))
    _, asked, answered = body(HELLO, call, Message("tool", (ToolResult(odd, ()),)), tools=(CLOCK,))["messages"]
    ident = asked["content"][0]["toolUse"]["toolUseId"]
    assert ident == "call_8fee3052735705a431d277bfd945f100"
    assert answered["content"][0]["toolResult"] == {"toolUseId": ident, "content": []}


def test_call__arguments():
    """Arguments are passed on as they were written: a number of any size stays what it is."""
    call = Message("assistant", (ToolCall("c", "clock", '{"at": 123456789012345678901234567890, "to": 1.50}'),))
    written = CONVERSE.written(Conversation(messages=(HELLO, call, RESULT), tools=(CLOCK,)), "m", stream=False)
    assert b'"input":{"at": 123456789012345678901234567890, "to": 1.50}' in written


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["report.pdf"], ["report"]),
        (["Mr. Li's\t final_report (v1.2) [x-y].pdf"], ["Mr Li s final report (v1 2) [x-y]"]),
        (["", "", "분기.pdf"], ["document", "document 2", "document 3"]),
        (["a.pdf", "A.docx", "a 2"], ["a", "A 2", "a 2 2"]),
        (["x" * 300], ["x" * 180]),
    ],
)
def test_document__names(names, written):
    """A document has a name of few characters, and no two have the same."""
    files = tuple(File(data="AA==", media_type=PDF, name=name) for name in names)
    blocks = body(Message("user", (*files, Text("Compare."))))["messages"][0]["content"]
    assert [block["document"]["name"] for block in blocks[:-1]] == written


def test_cache__inside_a_result():
    """A mark inside of a tool's result is taken for one after it, where Converse has a place for one."""
    result = ToolResult("call_1", (Text("Noon.", CacheMark("1h")), Text("Sharp.")))
    content = body(HELLO, CALL, Message("tool", (result,)), tools=(CLOCK,))["messages"][2]["content"]
    assert content[1:] == [{"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert content[0]["toolResult"]["content"] == [{"text": "Noon."}, {"text": "Sharp."}]


def test_tool__without_parameters():
    """A tool that takes nothing takes an object of nothing: Bedrock wants a schema."""
    spec = body(tools=(CLOCK,))["toolConfig"]["tools"][0]["toolSpec"]
    assert spec == {"name": "clock", "inputSchema": {"json": {"type": "object", "properties": {}}}}


def test_tool_choice__none():
    """Converse has no word for it: the tools are left out, where none was called before."""
    none = ToolChoice("none")
    assert "toolConfig" not in body(tools=(CLOCK,), tool_choice=none)
    assert lacks(tools=(CLOCK,), tool_choice=none) == {}
    assert lacks(HELLO, CALL, RESULT, tools=(CLOCK,), tool_choice=none) == {
        "tool_choice": "no tools where some were called before"
    }


@pytest.mark.parametrize(
    ("reasoning", "effort", "thinking"),
    [
        (Reasoning("high"), "high", None),
        (Reasoning("none"), None, {"type": "disabled"}),
        (Reasoning("max", 2000), "max", {"type": "enabled", "budget_tokens": 2000}),
        (Reasoning("low", None, True), "low", {"type": "adaptive", "display": "summarized"}),
        (Reasoning("", 2000, False), None, {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}),
        (Reasoning(), None, {"type": "adaptive"}),
    ],
)
def test_reasoning(reasoning, effort, thinking):
    """An effort has a place of its own; what else is said of thinking is said as Anthropic says it."""
    written = body(reasoning=reasoning)
    assert written.get("outputConfig", {}).get("effort") == effort
    assert written.get("additionalModelRequestFields", {}).get("thinking") == thinking


def test_nothing_asked():
    """What was not said is not written."""
    assert body() == {"messages": [{"role": "user", "content": [{"text": "Hello!"}]}]}
    assert body(temperature=0.0)["inferenceConfig"] == {"temperature": 0.0}


# -- what cannot be said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "feature", "why"),
    [
        ({"temperature": 1.5}, "temperature", "from 0 to 1"),
        ({"temperature": -0.1}, "temperature", "from 0 to 1"),
        ({"top_p": 1.01}, "top_p", "from 0 to 1"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"stop": ("",)}, "stop", "none that is empty"),
        ({"service_tier": "scale"}, "service_tier", "'scale' is not among default, flex, priority, reserved"),
        (
            {"reasoning": Reasoning("minimal")},
            "reasoning",
            "'minimal' is not among none, low, medium, high, xhigh, max",
        ),
        ({"response_format": ResponseFormat("json_schema")}, "json_schema", "not without the schema"),
        ({"tools": (Tool("a.b"),)}, "tools", "'a.b' is not of letters, digits, _ and -, at most 64"),
        ({"tools": (Tool("a", cache=CacheMark("2h")),)}, "cache", "'2h' is not among 5m, 1h"),
        ({"metadata": dict.fromkeys(map(str, range(17)), "")}, "metadata", "at most 16 pairs"),
        (
            {"metadata": {"a": "ä"}},
            "metadata",
            "'a': letters, digits, white space and :_@$#=/+,.- only, at most 256",
        ),
    ],
)
def test_lacks__fields(fields, feature, why):
    """A value that is out of Converse's range is refused by the name of its feature, and why."""
    assert lacks(**fields) == {feature: why}


@pytest.mark.parametrize(
    ("messages", "feature", "why"),
    [
        ([], "multi_turn", "the user begins"),
        ([Message("system", (Text("Be kind."),))], "multi_turn", "the user begins"),
        ([Message("assistant", (Text("Hi."),)), HELLO], "multi_turn", "the user begins"),
        ([Message("system", (Image(data="AA==", media_type="image/png"),)), HELLO], "system", "text alone"),
        (
            [HELLO, Message("assistant", (Image(data="AA==", media_type="image/png"),))],
            "image_data",
            "not from the assistant",
        ),
        (
            [Message("user", (Image(data="AA==", media_type="image/bmp"),))],
            "image_data",
            "'image/bmp' is not among image/png, image/jpeg, image/gif, image/webp, image/jpg",
        ),
        ([Message("user", (File(data="AA==", media_type=PDF),))], "file_data", "only beside a text"),
        ([HELLO, CALL, RESULT], "tool_results", "only beside the tools themselves"),
    ],
)
def test_lacks__turns(messages, feature, why):
    """So is a turn that it does not take."""
    assert CONVERSE.lacks(Conversation(messages=tuple(messages))) == {feature: why}


@pytest.mark.parametrize(
    ("parts", "feature"),
    [
        ((File(data="AA==", media_type="application/zip"),), "file_data"),
        ((File(data="AA==", media_type="audio/basic"),), "audio"),
        ((ToolCall("c", "clock", "{}", signature="QQ=="),), "thinking"),
        ((Thinking("Hm.", "gemini:QQ=="),), "thinking"),
        ((ToolCall("c", "clock", "[1]"),), "tool_results"),
        ((ToolCall("c", "clock", "{"),), "tool_results"),
        ((ToolResult("c", (File(data="AA==", media_type="audio/wav"),)),), "audio"),
    ],
)
def test_lacks__parts(parts, feature):
    """And so is a part."""
    assert list(lacks(Message("user", (*parts, Text("?"))), tools=(CLOCK,))) == [feature]


# -- what is answered --------------------------------------------------------------------------------------------


def answer(*content, stop="end_turn", **fields):
    return {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": stop, **fields}


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop_sequence"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("one_of_next_year", "stop"),
    ],
)
def test_finish(reason, finish):
    """Every reason for an end is one of ours; one that is not known yet is an end like any other."""
    assert CONVERSE.read(answer({"text": "Hi."}, stop=reason)).choices[0].finish == finish


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_finish__malformed(reason):
    """An answer of which Bedrock says that it is malformed is none."""
    with pytest.raises(NotAnAnswer, match=reason):
        CONVERSE.read(answer({"text": "Hi."}, stop=reason))


def test_usage():
    """Bedrock counts what a cache had to do with apart; we count it in."""
    usage = CONVERSE.read(
        answer(
            {"text": "Hi."},
            usage={
                "inputTokens": 18,
                "outputTokens": 386,
                "totalTokens": 7906,
                "cacheReadInputTokens": 500,
                "cacheWriteInputTokens": 7002,
            },
        )
    ).usage
    assert (usage.input_tokens, usage.output_tokens) == (7520, 386)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (500, 7002)


def test_citations():
    """Of a text with its sources the text is read."""
    block = {"citationsContent": {"content": [{"text": "It is"}, {"text": " noon."}], "citations": []}}
    assert CONVERSE.read(answer(block)).choices[0].parts == (Text("It is"), Text(" noon."))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "output is no object"),
        ({"output": {}}, "output.message is no object"),
        ({"output": {"message": {"content": {}}}}, "output.message.content is no list"),
        (answer({"video": {}}), "a block of the answer is of an unknown kind: video"),
        (answer({"text": 1}), "text is no text"),
        (answer({"toolUse": {"toolUseId": "c", "name": "n", "input": "{}"}}), "toolUse.input is no object"),
        (answer({"text": "Hi."}, stop=None), "stopReason is no text"),
    ],
)
def test_answer__malformed(data, message):
    """What is not of Converse is no answer, and the message says what is wrong."""
    with pytest.raises(NotAnAnswer, match=message):
        CONVERSE.read(orjson.loads(orjson.dumps(data)))
